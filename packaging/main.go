// Command packaging makes what is handed out of a tree of files: a .deb and a .rpm, by
// nfpm, and a list of what the binary is made of (an SBOM, CycloneDX). It is a module of
// its own, so that vdfs does not depend on what it is packed with.
//
//	packaging VERSION ARCH TREE TARGET
//
// VERSION is a semantic one, ARCH one of Go's, and SOURCE_DATE_EPOCH the time of
// everything.
package main

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: packaging VERSION ARCH TREE TARGET")
	}
	epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	p := product{args[0], args[1], args[2], args[3], time.Unix(epoch, 0).UTC()}
	return errors.Join(p.pack("deb"), p.pack("rpm"), p.bill())
}

type product struct {
	version, arch, tree, target string
	time                        time.Time
}

// pack makes a package of one kind.
func (p product) pack(kind string) (err error) {
	config, err := nfpm.ParseFileWithEnvMapping("nfpm.yaml", func(name string) string {
		return map[string]string{"VERSION": p.version, "ARCH": p.arch, "TREE": p.tree}[name]
	})
	if err != nil {
		return err
	}
	info, err := config.Get(kind)
	if err != nil {
		return err
	}
	info.MTime = p.time
	packager, err := nfpm.Get(kind)
	if err != nil {
		return err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, kind); err != nil {
		return err
	}
	for _, c := range info.Contents {
		c.FileInfo.MTime = p.time
		if c.Type == files.TypeSymlink { // or it has the mode of what its name leads to from here
			c.FileInfo.Mode = 0o777
		}
	}
	f, err := os.Create(filepath.Join(p.target, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	return errors.Join(packager.Package(info, f), f.Close())
}

// bill writes what the binary is made of, as the binary itself has it.
func (p product) bill() error {
	info, err := buildinfo.ReadFile(filepath.Join(p.tree, "usr/bin/vdfs"))
	if err != nil {
		return err
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: p.time.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: "vdfs", Type: cdx.ComponentTypeApplication, Name: "vdfs", Version: p.version,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "BSD-3-Clause"}}},
		},
	}
	parts := []cdx.Component{part("std", info.GoVersion[len("go"):], "")}
	refs := []string{parts[0].BOMRef}
	for _, d := range info.Deps {
		c := part(d.Path, d.Version, sumOf(d))
		parts, refs = append(parts, c), append(refs, c.BOMRef)
	}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: "vdfs", Dependencies: &refs}}
	f, err := os.Create(filepath.Join(p.target, fmt.Sprintf("vdfs_%s_linux_%s.cdx.json", p.version, p.arch)))
	if err != nil {
		return err
	}
	return errors.Join(cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom), f.Close())
}

func sumOf(m *debug.Module) string {
	if m.Replace != nil {
		return m.Replace.Sum
	}
	return m.Sum
}

func part(path, version, sum string) cdx.Component {
	ref := "pkg:golang/" + path + "@" + version
	c := cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: ref}
	if sum != "" { // as in go.sum
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c
}
