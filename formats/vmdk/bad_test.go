package vmdk

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"vdfs/vdcore"
)

// badCase is a damaged or hostile image and what may come of it. Files are made
// from a sound one by patches.
type badCase struct {
	Name  string
	Open  string
	Files []struct {
		Path, From, Text, Symlink string
		Size                      int64
		Patches                   []struct {
			At  int64
			Hex string
		}
	}
	Expect struct {
		Accept   []string
		IfOpened struct {
			Capacity   int64
			SHA256     string
			GoodRanges []struct {
				Start, Length int64
				SHA256        string
			} `json:"good_ranges"`
			ErrorRanges []struct{ Start, Length int64 } `json:"io_error_ranges"`
		} `json:"if_opened"`
	}
}

// saying is what the error, warning or damage of a case must say, and wrap.
var saying = map[string]struct {
	text string
	err  error
}{
	"vmdk-ascii-mangled":       {"newline check bytes", vdcore.ErrCorrupt},
	"vmdk-capacity-huge":       {"capacity", vdcore.ErrCorrupt},
	"vmdk-descriptor-100m":     {"descriptor too long", vdcore.ErrCorrupt},
	"vmdk-descriptor-size":     {"descriptor size", vdcore.ErrCorrupt},
	"vmdk-extent-device":       {"is a device", vdcore.ErrNotRegular},
	"vmdk-extent-dotdot":       {"../../../../etc/passwd", vdcore.ErrOutside},
	"vmdk-extent-etc-passwd":   {"/etc/passwd", vdcore.ErrOutside},
	"vmdk-extent-missing":      {"extent file missing (disk-flat.vmdk)", vdcore.ErrMissing},
	"vmdk-extent-overflow":     {"extent size", vdcore.ErrCorrupt},
	"vmdk-extent-self":         {"extent is the descriptor itself", vdcore.ErrCorrupt},
	"vmdk-extent-short":        {"extent file shorter than its extent", vdcore.ErrCorrupt},
	"vmdk-extent-symlink":      {"disk-flat.vmdk", vdcore.ErrOutside},
	"vmdk-extent-unknown-type": {"unknown extent type", vdcore.ErrUnsupported},
	"vmdk-extent-url":          {"not a plain file name", vdcore.ErrUnsupported},
	"vmdk-gd-both-past-eof":    {"grain directory past the end of the file", vdcore.ErrCorrupt},
	"vmdk-gd-past-eof":         {"grain directory past the end of the file", nil},
	"vmdk-grain-duplicate":     {"two grain table entries share a grain", nil},
	"vmdk-grain-huge":          {"grain size too large", vdcore.ErrCorrupt},
	"vmdk-grain-odd":           {"grain size not a power of two", vdcore.ErrCorrupt},
	"vmdk-grain-past-eof":      {"grain past the end of the file", vdcore.ErrCorrupt},
	"vmdk-grain-zero":          {"grain size 0", vdcore.ErrCorrupt},
	"vmdk-gt-past-eof":         {"past the end of the file", nil},
	"vmdk-gtes-zero":           {"entries per grain table", vdcore.ErrCorrupt},
	"vmdk-no-extents":          {"no extents", vdcore.ErrCorrupt},
	"vmdk-stream-bomb":         {"inflates to more than a grain", vdcore.ErrCorrupt},
	"vmdk-stream-garbage":      {"compressed grain", vdcore.ErrCorrupt},
	"vmdk-stream-grain-size":   {"compressed size of a grain", vdcore.ErrCorrupt},
	"vmdk-stream-no-footer":    {"footer", vdcore.ErrCorrupt},
	"vmdk-truncated-data":      {"grain past the end of the file", vdcore.ErrCorrupt},
	"vmdk-truncated-header":    {"truncated header", vdcore.ErrCorrupt},
	"vmdk-unclean":             {"unclean shutdown", nil},
	"vmdk-version":             {"unknown version", vdcore.ErrUnsupported},
}

func TestBad(t *testing.T) {
	var cases []badCase
	readJSON(t, "testdata/bad/cases.json", &cases)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { c.run(t, c.build(t)) })
	}
}

// TestBadCorpus runs the whole corpus, when it is there.
func TestBadCorpus(t *testing.T) {
	dir := os.Getenv("VDFS_CORPUS")
	if dir == "" {
		t.Skip("VDFS_CORPUS is not set; TestBad has most of it")
	}
	cases, _ := filepath.Glob(filepath.Join(dir, "bad", "vmdk-*", "case.json"))
	for _, path := range cases {
		var c badCase
		readJSON(t, path, &c)
		c.Name = filepath.Base(filepath.Dir(path))
		if strings.Contains(c.Name, "parent") {
			continue // the chain's business
		}
		t.Run(c.Name, func(t *testing.T) {
			to := unpack(t, filepath.Dir(path))
			for _, f := range c.Files {
				if f.Symlink != "" {
					os.Symlink(f.Symlink, filepath.Join(to, f.Path))
				}
			}
			c.run(t, to)
		})
	}
}

// build writes the files of a case.
func (c *badCase) build(t *testing.T) string {
	dir := t.TempDir()
	for _, f := range c.Files {
		path := filepath.Join(dir, f.Path)
		if f.Symlink != "" {
			if err := os.Symlink(f.Symlink, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b := []byte(f.Text)
		if f.From != "" {
			b = bytes.Clone(sound(t, f.From)[:f.Size])
		}
		for _, p := range f.Patches {
			with, err := hex.DecodeString(p.Hex)
			if err != nil {
				t.Fatal(err)
			}
			copy(b[p.At:], with)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sound returns a file bad ones are made from: "sparse" or "stream", the latter
// with a damaged grain, or "flat", the content both show.
func sound(t testing.TB, name string) []byte {
	t.Helper()
	if name != "flat" {
		return gunzip(t, "testdata/bad/"+name+".vmdk.gz")
	}
	path := filepath.Join(t.TempDir(), "disk.vmdk")
	if err := os.WriteFile(path, sound(t, "sparse"), 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := openPath(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	var b bytes.Buffer
	if err := flatten(&b, []vdcore.Image{img}, 0, img.Info().Capacity); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (c *badCase) run(t *testing.T, dir string) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	img, err := openPath(filepath.Join(dir, c.Open), false)
	runtime.ReadMemStats(&after)
	if b := after.TotalAlloc - before.TotalAlloc; b > 64<<20 {
		t.Errorf("open took %d bytes", b)
	}
	if err != nil {
		c.accept(t, "refuse", err)
		return
	}
	defer img.Close()
	c.opened(t, img)
}

// accept checks an outcome and the words that go with it.
func (c *badCase) accept(t *testing.T, outcome string, err error) {
	t.Helper()
	if !slices.Contains(c.Expect.Accept, outcome) {
		t.Errorf("outcome %s, accepted are %v: %v", outcome, c.Expect.Accept, err)
	}
	want := saying[c.Name]
	if want.text != "" && (err == nil || !strings.Contains(err.Error(), want.text)) {
		t.Errorf("says %q, want %q", err, want.text)
	}
	if want.err != nil && !errors.Is(err, want.err) {
		t.Errorf("%v does not wrap %v", err, want.err)
	}
	t.Log(outcome, err)
}

// opened judges an image that opened. Damage makes the chain refuse it, or read
// it in part.
func (c *badCase) opened(t *testing.T, img vdcore.Image) {
	info := img.Info()
	want := c.Expect.IfOpened
	if want.Capacity != 0 && info.Capacity != want.Capacity {
		t.Errorf("capacity %d, want %d", info.Capacity, want.Capacity)
	}
	for _, r := range want.GoodRanges {
		h := sha256.New()
		if err := flatten(h, []vdcore.Image{img}, r.Start, r.Length); err != nil {
			t.Errorf("good range at %d: %v", r.Start, err)
		} else if got := hex.EncodeToString(h.Sum(nil)); got != r.SHA256 {
			t.Errorf("good range at %d: %s, want %s", r.Start, got, r.SHA256)
		}
	}
	if want.SHA256 != "" && len(info.Damage) == 0 {
		if got := flatHash(t, []vdcore.Image{img}, info.Capacity); got != want.SHA256 {
			t.Errorf("content %s, want %s", got, want.SHA256)
		}
	}
	var lost error
	for _, r := range want.ErrorRanges {
		for off := r.Start; off < r.Start+r.Length; off += sector {
			if lost = flatten(io.Discard, []vdcore.Image{img}, off, sector); lost == nil {
				t.Fatalf("sector at %d can be read", off)
			}
		}
	}
	switch {
	case len(info.Damage) > 0 && slices.Contains(c.Expect.Accept, "refuse"): // as the chain does
		c.accept(t, "refuse", info.Damage[0].Err)
	case len(info.Damage) > 0:
		c.accept(t, "open-partial", info.Damage[0].Err)
	case lost != nil:
		c.accept(t, "open-partial", lost)
	case len(info.Warnings)+len(info.Notes) > 0 && slices.Contains(c.Expect.Accept, "open-warn"):
		c.accept(t, "open-warn", errors.New(strings.Join(append(info.Warnings, info.Notes...), "; ")))
	default:
		c.accept(t, "open", nil)
	}
}
