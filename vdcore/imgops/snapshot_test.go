package imgops

import (
	"testing"

	"github.com/google/uuid"

	"vdfs/vdcore"
)

// TestHint: relative where the finder looks without options, else absolute.
func TestHint(t *testing.T) {
	for _, c := range []struct{ parent, child, want string }{
		{"/vm/a.vdi", "/vm/b.vdi", "a.vdi"},
		{"/vm/a.vdi", "/vm/Snapshots/b.vdi", "../a.vdi"},
		{"/vm/Snapshots/a.vdi", "/vm/b.vdi", "Snapshots/a.vdi"},
		{"/vm/Snapshots/a.vdi", "/vm/other/b.vdi", "../Snapshots/a.vdi"},
		{"/vm/a.vdi", "/vm/deep/er/b.vdi", "/vm/a.vdi"},
		{"/data/a.vdi", "/var/tmp/x/b.vdi", "/data/a.vdi"},
	} {
		if got := hint(c.parent, c.child); got != c.want {
			t.Errorf("%s on %s stores %q, want %q", c.child, c.parent, got, c.want)
		}
	}
}

// stub is an image of which only Info is asked.
type stub struct {
	vdcore.Image
	info vdcore.Info
}

func (s *stub) Info() *vdcore.Info { return &s.info }

// TestMeans: an identity decides where there is one, a name only where not.
func TestMeans(t *testing.T) {
	one, two := uuid.New(), uuid.New()
	vdi := vdcore.Identity{UUID: one}
	vmdk := vdcore.Identity{HasCID: true, CID: 7}
	for _, c := range []struct {
		ref  vdcore.ParentRef
		id   vdcore.Identity
		want bool
	}{
		{vdcore.ParentRef{UUID: one, CID: vdcore.NoParentCID}, vdi, true},
		{vdcore.ParentRef{UUID: two, CID: vdcore.NoParentCID, Hint: "disk"}, vdi, false},
		{vdcore.ParentRef{CID: 7, Hint: "moved"}, vmdk, true},
		{vdcore.ParentRef{CID: 8, Hint: "disk"}, vmdk, false},
		{vdcore.ParentRef{CID: vdcore.NoParentCID, Hint: `C:\vm\disk`}, vdcore.Identity{}, true},
		{vdcore.ParentRef{CID: vdcore.NoParentCID, Hint: "other"}, vdcore.Identity{}, false},
		{vdcore.ParentRef{CID: 7, Hint: "disk"}, vdcore.Identity{}, false},
		{vdcore.ParentRef{UUID: one, Hint: "disk"}, vdcore.Identity{}, false},
	} {
		l := &vdcore.Layer{Path: "/vm/disk", Image: &stub{info: vdcore.Info{Identity: c.id}}}
		if got := means(&c.ref, l); got != c.want {
			t.Errorf("%+v means %+v: %v", c.ref, c.id, got)
		}
	}
}
