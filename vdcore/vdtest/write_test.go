package vdtest_test

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"testing"

	_ "vdfs/formats/all"
	"vdfs/vdcore/vdtest"
)

// smallCases are images of every kind that can be written, small enough for the
// loops over every operation.
func smallCases(t *testing.T) []vdtest.WriteCase {
	return []vdtest.WriteCase{
		vdtest.VDICase(1, 1), vdtest.VDICase(2, 2), vdtest.VDICase(3, 5),
		vdtest.CreatedCase(t, "vmdk", ".vmdk", 5, 1, 1<<20+37<<10, 64<<10),
		vdtest.CreatedCase(t, "vmdk", ".vmdk", 6, 3, 1<<20+37<<10, 64<<10),
	}
}

// largeCases are some MiB, made by this program or by other tools.
func largeCases(t *testing.T) []vdtest.WriteCase {
	list := []vdtest.WriteCase{vdtest.CreatedCase(t, "vdi", ".vdi", 4, 2, 3<<20+512, 1<<20)}
	for _, archive := range []string{"vdi-v0", "vdi-v1-short-header", "vdi-block-extra", "vdi-qemu", "vmlayout"} {
		list = append(list, vdtest.GoldenWriteCase(t, archive, 0, 1<<20))
	}
	for _, archive := range []string{"vmdk-flat", "vmdk-esx", "vmdk-diff3", "vmdk-qemu-chain", "vmdk-qemu-zeroed"} {
		list = append(list, vdtest.GoldenWriteCase(t, archive, 0, 64<<10))
	}
	return list
}

// each runs fn for every case, in parallel.
func each(t *testing.T, cases []vdtest.WriteCase, fn func(t *testing.T, c vdtest.WriteCase)) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			fn(t, c)
		})
	}
}

func TestModel(t *testing.T) {
	each(t, append(smallCases(t), largeCases(t)...), func(t *testing.T, c vdtest.WriteCase) {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) { vdtest.Model(t, c, seed, 150) })
		}
	})
}

func TestCrash(t *testing.T) {
	each(t, smallCases(t), func(t *testing.T, c vdtest.WriteCase) {
		for seed := range crashSeeds(t) {
			vdtest.Crash(t, c, vdtest.CrashOptions{Seed: seed + 1, MaxCuts: crashCuts()})
		}
	})
}

// crashSeeds is how many scripts are cut: one, or VDFS_CRASH_SEEDS for a long run.
func crashSeeds(t *testing.T) uint64 {
	n, err := strconv.ParseUint(cmp.Or(os.Getenv("VDFS_CRASH_SEEDS"), "1"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// crashCuts spreads the cuts of a short run over the script; a long run leaves out no
// operation.
func crashCuts() int {
	if os.Getenv("VDFS_CRASH_SEEDS") != "" {
		return 0
	}
	return 32
}

func TestCrashLarge(t *testing.T) {
	each(t, largeCases(t), func(t *testing.T, c vdtest.WriteCase) {
		vdtest.Crash(t, c, vdtest.CrashOptions{Seed: 2, MaxCuts: 12, Survivors: 4})
	})
}

// TestFaults takes the longest: of each format one image, a VDI over a parent.
func TestFaults(t *testing.T) {
	list := smallCases(t)
	each(t, []vdtest.WriteCase{list[1], list[3]}, vdtest.Faults)
}

func TestBarriers(t *testing.T) {
	each(t, smallCases(t), func(t *testing.T, c vdtest.WriteCase) { vdtest.Barriers(t, c, nil) })
}
