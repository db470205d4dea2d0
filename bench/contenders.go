package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Names of contenders: the columns of the table.
const (
	rawFile     = "raw file"
	kernelPath  = "vdfs kernel"
	requestPath = "vdfs requests"
	qemuStorage = "qemu-storage-d"
	vboximg     = "vboximg-mount"
)

// contender is one way to see an image as a flat file.
type contender struct {
	name  string
	tool  string // the peer's program; none for vdfs and the raw file
	mount func(b *bench, img *image) (*mounted, error)
}

// errCannot is a contender's answer to an image that is not of its kinds.
var errCannot = errors.New("it does not read this kind of image")

var contenders = []contender{
	{rawFile, "", func(_ *bench, img *image) (*mounted, error) {
		return &mounted{disk: img.flat, close: func() error { return nil }}, nil
	}},
	{kernelPath, "", func(b *bench, img *image) (*mounted, error) {
		return b.mountVDFS(img.file, "--kernel-reads=require")
	}},
	{requestPath, "", func(b *bench, img *image) (*mounted, error) {
		return b.mountVDFS(img.file, "--kernel-reads=off")
	}},
	{qemuStorage, "qemu-storage-daemon", func(b *bench, img *image) (*mounted, error) {
		if img.format == "vdi" && len(img.layers) > 1 {
			return nil, errCannot // QEMU refuses differencing VDI
		}
		return b.mountQSD(img.file, img.format, false)
	}},
	{vboximg, "vboximg-mount", func(b *bench, img *image) (*mounted, error) {
		if img.format == "vmdk" && len(img.layers) > 1 {
			return nil, errCannot // its parents are known by CID, which VirtualBox does not follow
		}
		return b.mountFolder("vhdd", "vboximg-mount", "--image", img.file)
	}},
	{"vmdkmount", "vmdkmount", func(b *bench, img *image) (*mounted, error) {
		if img.format != "vmdk" || len(img.layers) > 1 {
			return nil, errCannot
		}
		return b.mountFolder("vmdk1", "vmdkmount", img.file)
	}},
	{"xmount", "xmount", func(b *bench, img *image) (*mounted, error) {
		if img.format != "raw" {
			return nil, errCannot
		}
		name := strings.TrimSuffix(filepath.Base(img.file), ".raw") + ".dd"
		return b.mountFolder(name, "xmount", "--in", "raw", img.file)
	}},
	{"nbdfuse", "nbdfuse", func(b *bench, img *image) (*mounted, error) {
		if img.format == "vdi" && len(img.layers) > 1 {
			return nil, errCannot
		}
		return b.mountNBD(img.file, img.format)
	}},
}

// mountFolder shows an image by a peer that takes a folder and goes to the
// background; disk is what it calls the flat file there.
func (b *bench) mountFolder(disk, tool string, args ...string) (*mounted, error) {
	at, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	if err := b.daemon(b.tool(tool, append(args, at)...)); err != nil {
		return nil, err
	}
	return b.served(at, disk)
}

// mountNBD shows an image by nbdfuse in front of qemu-nbd. It stays in front: its
// mount is waited for.
func (b *bench) mountNBD(img, format string) (*mounted, error) {
	at, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	cmd := b.tool("nbdfuse", "-r", filepath.Join(at, "disk.raw"), "[", "qemu-nbd", "-r", "-f", format, img, "]")
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m, err := b.served(at, "disk.raw")
	if err != nil {
		cmd.Process.Kill()
		<-ended
		return nil, err
	}
	unmount := m.close
	m.close = func() error {
		err := unmount()
		<-ended
		return err
	}
	return m, nil
}

// mountQSD exports an image through qemu-storage-daemon's FUSE export, which shows
// it in place of a file.
func (b *bench) mountQSD(img, format string, writable bool) (*mounted, error) {
	readOnly, export := "on", "off"
	if writable {
		readOnly, export = "off", "on"
	}
	f, err := os.CreateTemp(b.dir, "qsd-")
	if err != nil {
		return nil, err
	}
	f.Close()
	at := f.Name()
	cmd := b.tool("qemu-storage-daemon", "--daemonize", "--pidfile", at+".pid",
		"--blockdev", "driver="+format+",node-name=disk,read-only="+readOnly+",file.driver=file,file.filename="+img,
		"--export", "type=fuse,id=e,node-name=disk,mountpoint="+at+",writable="+export)
	if err := b.daemon(cmd); err != nil {
		return nil, err
	}
	m, err := b.served(at, "")
	if err != nil {
		return nil, err
	}
	m.close = func() error { return endQSD(at + ".pid") }
	return m, nil
}
