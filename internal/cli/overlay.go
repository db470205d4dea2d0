package cli

import (
	"cmp"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"

	"vdfs/fs"
	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

// overlayTemp as the argument of --overlay asks for one that is gone afterwards.
const overlayTemp = "tmp"

// overlaySource opens the one image of the request below an overlay that takes the
// writes. What is mounted is named after the image all the same.
func (r *mountRequest) overlaySource(image named) (fs.Source, error) {
	source, err := image.open(r.open)
	if err != nil {
		return source, err
	}
	base := source.Chain
	top := base.Top().Layer()
	var chain *vdcore.Chain
	if r.overlay == overlayTemp {
		chain, err = openTempOverlay(base)
	} else {
		chain, err = r.openOverlay(base)
	}
	if err != nil {
		return fs.Source{}, errors.Join(explainNew(err), source.Close())
	}
	for i, l := range base.Layers() {
		chain.Layers()[i].Snapshots = l.Snapshots
	}
	warnOverlay(chain, top, r.overlay == overlayTemp)
	r.fsName = cmp.Or(r.fsName, top.Path)
	source.Name, source.Chain = cmp.Or(source.Name, top.Name()), chain
	return source, base.Close()
}

// warnOverlay prints what the user should know about an overlay on top of an image.
// That a plain disk has no identity is all there is to say of a link to one, and
// nothing as long as the disk is locked.
func warnOverlay(chain *vdcore.Chain, image *vdcore.Layer, temporary bool) {
	plain := !imgops.HasIdentity(image.Info())
	for _, w := range chain.Warnings() {
		if !plain || w != chain.Top().Layer().Link.Note {
			warnOf("%s", w)
		}
	}
	if plain && !temporary {
		warnOf("%s", noIdentity(image))
	}
}

// openOverlay opens the overlay that was named, and makes it first if need be.
func (r *mountRequest) openOverlay(base *vdcore.Chain) (*vdcore.Chain, error) {
	if _, err := os.Stat(r.overlay); errors.Is(err, iofs.ErrNotExist) {
		if err := imgops.Snapshot(base, r.overlay); err != nil {
			return nil, err
		}
		warnVirtualBox(base.Top().Layer(), r.overlay)
		r.made = r.overlay
	}
	return imgops.OpenOverlay(base, r.overlay)
}

// removeMade takes back the overlay of a mount that did not come about.
func (r *mountRequest) removeMade() error {
	if r.made == "" {
		return nil
	}
	return os.Remove(r.made)
}

// openTempOverlay makes an overlay that has lost its name when it is returned, so
// that it goes with the process, however that ends. The folder, which nobody else
// can enter, keeps others from opening it in between.
func openTempOverlay(base *vdcore.Chain) (chain *vdcore.Chain, err error) {
	dir, err := os.MkdirTemp(cmp.Or(os.Getenv("TMPDIR"), "/var/tmp"), "vdfs-overlay-") // /tmp may be memory
	if err != nil {
		return nil, fmt.Errorf("temporary overlay: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); rerr != nil && chain != nil {
			chain, err = nil, errors.Join(rerr, chain.Close())
		}
	}()
	path := filepath.Join(dir, "overlay.vmdk")
	if err := imgops.Snapshot(base, path); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return imgops.OpenOverlay(base, path)
}
