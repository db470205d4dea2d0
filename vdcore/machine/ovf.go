package machine

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"vdfs/vdcore"
	"vdfs/vdcore/vbox"
)

// envelope is what matters of an OVF file, versions 0.9 to 2.x (DSP0243). Names are
// matched without their namespaces, which changed with each version.
type envelope struct {
	Files   []ovfFile   `xml:"References>File"`
	Disks   []ovfDisk   `xml:"DiskSection>Disk"`
	Systems []ovfSystem `xml:"VirtualSystem"`
	More    []ovfSystem `xml:"VirtualSystemCollection>VirtualSystem"`
}

type ovfFile struct {
	ID          string `xml:"id,attr"`
	Href        string `xml:"href,attr"`
	Compression string `xml:"compression,attr"`
	ChunkSize   string `xml:"chunkSize,attr"`
}

type ovfDisk struct {
	ID       string `xml:"diskId,attr"`
	FileRef  string `xml:"fileRef,attr"`
	Capacity string `xml:"capacity,attr"`
	Units    string `xml:"capacityAllocationUnits,attr"`
}

type ovfSystem struct {
	ID    string    `xml:"id,attr"`
	Name  string    `xml:"Name"`
	Items []ovfItem `xml:"VirtualHardwareSection>Item"`
	Disks []ovfItem `xml:"VirtualHardwareSection>StorageItem"` // OVF 2
}

type ovfItem struct {
	ID       string   `xml:"InstanceID"`
	OldID    string   `xml:"InstanceId"` // OVF 0.9
	Name     string   `xml:"ElementName"`
	Caption  string   `xml:"Caption"`
	Parent   string   `xml:"Parent"`
	Place    string   `xml:"AddressOnParent"`
	Resource []string `xml:"HostResource"`
}

// undefined hands on the tokens of a file without a document type definition.
type undefined struct{ *xml.Decoder }

func (u undefined) Token() (xml.Token, error) {
	t, err := u.Decoder.Token()
	if _, dtd := t.(xml.Directive); dtd {
		return nil, vbox.ErrDTD
	}
	return t, err
}

// charset reads XML in the encoding it says.
func charset(name string, r io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(name)
	if err != nil {
		return nil, err
	}
	return enc.NewDecoder().Reader(r), nil
}

func parseOVF(text []byte) (*envelope, error) {
	dec := xml.NewDecoder(bytes.NewReader(text))
	dec.CharsetReader = charset
	var e envelope
	if err := xml.NewTokenDecoder(undefined{dec}).Decode(&e); err != nil {
		return nil, err
	}
	e.Systems = append(e.Systems, e.More...)
	return &e, nil
}

// ovf reads a description in the standard's format.
func (r *reader) ovf() error {
	text, err := r.text(r.File)
	if err != nil {
		return err
	}
	e, err := parseOVF(text)
	if err != nil {
		return r.broken(err)
	}
	if err := r.bound(len(e.Disks), 0, 0); err != nil {
		return err
	}
	r.Kind, r.manifest = OVF, strings.TrimSuffix(r.File, filepath.Ext(r.File))+".mf"
	if len(e.Systems) == 1 {
		r.Name = cmp.Or(e.Systems[0].Name, e.Systems[0].ID, r.Name)
	}
	for _, d := range e.Disks {
		if d.FileRef == "" {
			r.warn("%s: the disk %s has no file: it was exported empty, and is not shown", r.File, d.ID)
			continue
		}
		r.add(r.ovfDisk(e, d))
	}
	return nil
}

func (r *reader) ovfDisk(e *envelope, d ovfDisk) *Disk {
	disk := &Disk{Name: cmp.Or(d.ID, "disk"), Slot: e.slot(d.ID), Capacity: d.bytes()}
	file := e.file(d.FileRef)
	if file == nil {
		disk.Err = fmt.Errorf("%s: the disk %s: %w: there is no file %q in the list of files", r.File, d.ID, vdcore.ErrMissing, d.FileRef)
		return disk
	}
	disk.Name = cmp.Or(stem(file.Href), disk.Name)
	disk.image.path, disk.Err = r.href(file)
	disk.image.err = disk.Err
	return disk
}

// href finds a file of the list. Its name is a URI reference, which not everybody who
// writes one knows.
func (r *reader) href(f *ovfFile) (string, error) {
	switch {
	case f.Compression != "" && f.Compression != "identity":
		return "", fmt.Errorf("%s: %s is compressed (%s), %w; unpack it (gunzip) and take the attribute compression out of the description",
			r.File, f.Href, f.Compression, vdcore.ErrUnsupported)
	case f.ChunkSize != "":
		return "", fmt.Errorf("%s: %s is cut into chunks, %w; put them together (cat) and take the attribute chunkSize out of the description",
			r.File, f.Href, vdcore.ErrUnsupported)
	case strings.Contains(f.Href, "://"):
		return "", fmt.Errorf("%s: %s lies on the net, %w; download it, and name it in the description", r.File, f.Href, vdcore.ErrUnsupported)
	}
	path, err := r.find(f.Href)
	if plain, uerr := url.PathUnescape(f.Href); err != nil && uerr == nil && plain != f.Href {
		if path, err := r.find(plain); err == nil {
			return path, nil
		}
	}
	return path, err
}

func (e *envelope) file(id string) *ovfFile {
	for i := range e.Files {
		if e.Files[i].ID == id {
			return &e.Files[i]
		}
	}
	return nil
}

// slot says where a disk is attached: the controller's name, and the number there.
func (e *envelope) slot(disk string) string {
	for _, s := range e.Systems {
		for _, item := range append(s.Disks, s.Items...) {
			if !item.holds(disk) {
				continue
			}
			name := cmp.Or(item.Name, item.Caption, disk)
			for _, c := range s.Items {
				if item.Parent != "" && cmp.Or(c.ID, c.OldID) == item.Parent {
					name = fmt.Sprintf("%s %s", cmp.Or(c.Name, c.Caption), item.Place)
				}
			}
			return name
		}
	}
	return ""
}

// holds reports whether a device is made of a disk: ovf:/disk/ID, or /disk/ID.
func (i *ovfItem) holds(disk string) bool {
	for _, r := range i.Resource {
		if strings.TrimPrefix(r, "ovf:") == "/disk/"+disk {
			return true
		}
	}
	return false
}

// bytes is the capacity: a number of units, such as "byte * 2^30"; 0 when it makes no
// sense.
func (d *ovfDisk) bytes() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(d.Capacity), 10, 64)
	unit := int64(1)
	if what, times, ok := strings.Cut(d.Units, "*"); ok && strings.TrimSpace(what) == "byte" {
		unit = power(times)
	}
	if err != nil || n <= 0 || unit <= 0 || n > vdcore.MaxCapacity/unit {
		return 0
	}
	return n * unit
}

// power is a number, or one to the power of another; 0 when it makes no sense.
func power(s string) int64 {
	base, exp, _ := strings.Cut(strings.TrimSpace(s), "^")
	b, err := strconv.ParseInt(strings.TrimSpace(base), 10, 32)
	n, nerr := strconv.ParseUint(cmp.Or(strings.TrimSpace(exp), "1"), 10, 6)
	if err != nil || nerr != nil || b <= 0 {
		return 0
	}
	p := int64(1)
	for range n {
		if p > vdcore.MaxCapacity/b {
			return 0
		}
		p *= b
	}
	return p
}
