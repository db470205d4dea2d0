package machine

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
)

// diskKey is the file of what is attached to a slot of a controller.
var diskKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^((?:scsi|sata|ide|nvme)\d{1,3}:\d{1,3})\.filename$`)
})

// vmx reads a VMware machine, and its snapshots from the .vmsd file of the same name.
func (r *reader) vmx() error {
	text, err := r.text(r.File)
	if err != nil {
		return err
	}
	k, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", r.File, err)
	}
	if k["encryption.data"] != "" {
		return fmt.Errorf("%s: %w: the machine is encrypted", r.File, vdcore.ErrUnsupported)
	}
	r.Kind, r.Name = VMware, cmp.Or(k["displayname"], r.Name)
	slots := k.slots()
	if err := r.bound(len(slots), 0, 0); err != nil {
		return err
	}
	for _, slot := range slots {
		r.addSlot(slot, k[slot+".filename"])
	}
	r.lookBusy(k)
	return r.vmsd(strings.TrimSuffix(r.File, filepath.Ext(r.File)) + ".vmsd")
}

// slots are those with a hard disk, in order.
func (k keys) slots() (list []string) {
	for name, file := range k {
		m := diskKey().FindStringSubmatch(name)
		if m == nil || strings.EqualFold(k[m[1]+".present"], "false") {
			continue
		}
		if kind := strings.ToLower(k[m[1]+".devicetype"]); strings.Contains(kind, "cdrom") || extension(file) != ".vmdk" {
			continue
		}
		list = append(list, m[1])
	}
	slices.Sort(list)
	return list
}

// addSlot adds the disk of a slot, whose present image is file.
func (r *reader) addSlot(slot, file string) *Disk {
	img := r.named(file)
	return r.add(&Disk{Name: baseName(file), Slot: slot, Err: img.err, image: img})
}

func (r *reader) named(file string) image {
	path, err := r.find(file)
	return image{path: path, err: err}
}

// lookBusy finds out whether the machine runs, which VMware shows by a folder beside
// each file in use, or sleeps.
func (r *reader) lookBusy(k keys) {
	if k["checkpoint.vmstate"] != "" {
		r.busy = "the machine is suspended, and goes on with its disks as they are"
	}
	for _, d := range r.Disks {
		if lock := d.image.path + ".lck"; d.Err == nil && errors.Is(r.exists(lock), storage.ErrNotRegular) {
			r.busy = "the machine seems to run: there is " + lock
		}
	}
	if r.busy != "" {
		r.warn("%s: %s", r.File, r.busy)
	}
}

// numbered is what VMware adds to the name of a disk for the images of snapshots.
var numbered = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`-\d{6}$`)
})

// baseName is the name of the disk a file belongs to.
func baseName(file string) string { return numbered().ReplaceAllString(stem(file), "") }

// vmsdReader adds the snapshots of a .vmsd file to a machine.
type vmsdReader struct {
	*reader
	keys
	uids []string // of the snapshots added so far, by index
}

// vmsd reads the snapshots. A machine that never had any has no such file.
func (r *reader) vmsd(path string) error {
	text, err := r.text(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.warn("%v; the snapshots have no names", err)
		}
		return nil
	}
	k, err := parseKeys(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	order := k.order()
	if err := r.bound(0, len(order), 0); err != nil { // the keys bound the states
		return err
	}
	v := &vmsdReader{reader: r, keys: k}
	for _, n := range order {
		v.add(n)
	}
	r.showNewest()
	return nil
}

// order lists the numbers of the snapshots, each after the one it was made from; those
// whose parent is not there, or that claim a circle, come last.
func (k keys) order() (list []int) {
	all := k.numbers()
	made := map[string][]int{} // from the one with this uid
	uids := map[string]bool{}
	for _, n := range all {
		uids[k[key(n, "uid")]] = true
		parent := k[key(n, "parent")]
		made[parent] = append(made[parent], n)
	}
	var first []int
	for parent, children := range made {
		if !uids[parent] {
			first = append(first, children...)
		}
	}
	slices.Sort(first)
	done := map[int]bool{}
	stack := slices.Concat(backwards(all), backwards(first)) // the last comes next
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		if stack = stack[:len(stack)-1]; !done[n] {
			done[n] = true
			list = append(list, n)
			uid := k[key(n, "uid")]
			stack = append(stack, backwards(made[uid])...)
			delete(made, uid)
		}
	}
	return list
}

func backwards(list []int) []int {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// numbers are those of the snapshots, in order.
func (k keys) numbers() (list []int) {
	for name, uid := range k {
		rest, is := strings.CutPrefix(name, "snapshot")
		number, ends := strings.CutSuffix(rest, ".uid")
		if n, err := strconv.Atoi(number); is && ends && err == nil && uid != "" {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

func key(n int, name string) string { return fmt.Sprintf("snapshot%d.%s", n, name) }

// add adds one snapshot, and to each disk its state then.
func (v *vmsdReader) add(n int) {
	get := func(name string) string { return v.keys[key(n, name)] }
	s := Snapshot{Current: get("uid") == v.keys["snapshot.current"]}
	s.Name, s.Description, s.Taken = get("displayname"), get("description"), taken(get("createtimehigh"), get("createtimelow"))
	s.Parent = slices.Index(v.uids, get("parent"))
	v.uids = append(v.uids, get("uid"))
	v.Snapshots = append(v.Snapshots, s)
	disks, _ := strconv.Atoi(get("numdisks"))
	for i := range min(disks, maxDisks) {
		if file := get(fmt.Sprintf("disk%d.filename", i)); file != "" && !v.full() {
			v.addState(strings.ToLower(get(fmt.Sprintf("disk%d.node", i))), file)
		}
	}
}

// addState notes the image a disk had when the snapshot added last was taken.
func (v *vmsdReader) addState(slot, file string) {
	img := v.named(file)
	i := slices.IndexFunc(v.Disks, func(d *Disk) bool { return d.Slot == slot })
	if i < 0 {
		i = len(v.Disks)
		v.addSlot(slot, file).Detached = true
	}
	v.Disks[i].states = append(v.Disks[i].states, state{len(v.Snapshots) - 1, img})
}

// taken is the time of a snapshot: microseconds since 1970 in two halves, of which the
// lower one is often written as a negative number.
func taken(highText, lowText string) time.Time {
	high, err := strconv.ParseInt(highText, 10, 32)
	low, lerr := strconv.ParseInt(lowText, 10, 64)
	if err != nil || lerr != nil || high == 0 && low == 0 {
		return time.Time{}
	}
	return time.UnixMicro(high<<32 | low&0xFFFFFFFF)
}
