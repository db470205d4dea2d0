package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"vdfs/internal/shell"
	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

func snapshotCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "make a differencing image on top of another",
		ArgsUsage: "IMAGE NEW",
		Description: "NEW (.vdi or .vmdk; the extension decides the format) shows what IMAGE shows, and takes\n" +
			"what is written from then on, as in: vdfs mount --rw NEW MOUNTPOINT. IMAGE is only read,\n" +
			"and must not be changed any more: not by vdfs, and not by a virtual machine.",
		Flags:  parentFlags(),
		Action: runSnapshot,
	}
}

func runSnapshot(c *cli.Context) error {
	args, err := arguments(c, "IMAGE", "NEW")
	if err != nil {
		return err
	}
	base, err := openChain(c, args[0])
	if err != nil {
		return err
	}
	err = explainNew(imgops.Snapshot(base, args[1]))
	err = errors.Join(err, base.Close())
	if err != nil {
		return err
	}
	return sayHowToOpen(base, args[1])
}

// explainNew adds to what is wrong with a new file's name what to do.
func explainNew(err error) error {
	switch {
	case errors.Is(err, imgops.ErrExtension):
		return usageError{err.Error()}
	case errors.Is(err, os.ErrExist):
		return fmt.Errorf("%w; it is not overwritten: remove it or choose another name", err)
	}
	return err
}

// sayHowToOpen tells the options without which a new image does not find its
// parent.
func sayHowToOpen(base *vdcore.Chain, path string) error {
	top := base.Top().Layer()
	warnVirtualBox(top, path)
	options := "--parent " + shell.Quote(top.Path)
	if !imgops.HasIdentity(top.Info()) {
		options += " --allow-modified-parent"
		warnOf("%s; open %s with %s", noIdentity(top), path, options)
		return nil
	}
	c, err := vdcore.Open(path, base.Options())
	if errors.Is(err, vdcore.ErrMissing) {
		warnOf("%s is not where the parent of %s is looked for; open that with %s", top.Path, path, options)
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// warnVirtualBox says when VirtualBox, which knows parents by UUID alone, takes a new
// image for one without a parent. It opens that without a word.
func warnVirtualBox(parent *vdcore.Layer, path string) {
	if parent.Info().UUID == uuid.Nil {
		warnOf("%s has no UUID, so VirtualBox does not know %s for its child and shows an empty disk: use that with vdfs and qemu-img only", parent.Path, path)
	}
}

// noIdentity says why nobody can vouch for a plain disk as parent.
func noIdentity(l *vdcore.Layer) string {
	return fmt.Sprintf("%s is a plain disk without an identity: nobody can tell whether it is changed after an image was made from it, which makes that wrong", l.Path)
}
