package vdtest

import (
	"fmt"
	"slices"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage/crashfs"
)

// Barriers proves that [Crash] would notice a missing barrier. Syncs lie: first
// those that come before entries are written (no entry waits for them), then those
// after. Either way the loop over all cuts must find something wrong.
func Barriers(t *testing.T, c WriteCase, isTable func(path string, sector int64) bool) {
	t.Helper()
	opt := CrashOptions{Seed: 1, Survivors: 12}.filled()
	opt.MaxCuts = 0
	if isTable == nil {
		isTable = c.IsTable
	}
	if isTable == nil {
		isTable = findTables(t, &c, opt)
	}
	for barrier, lies := range map[string]bool{"before the entries": false, "after the entries": true} {
		lied := 0
		lie := func(path string, pending []int64) bool {
			entries := slices.ContainsFunc(pending, func(s int64) bool { return isTable(path, s) })
			lying := len(pending) > 0 && entries == lies
			if lying {
				lied++
			}
			return lying
		}
		found, cuts := firstViolation(t, &c, opt, lie)
		switch {
		case lied == 0:
			t.Errorf("%s: no sync %s was met: isTable is wrong, or there is none", c.Name, barrier)
		case found == nil:
			t.Errorf("%s: nobody notices that the barrier %s is missing (%d cuts)", c.Name, barrier, cuts)
		default:
			t.Logf("%s: without the barrier %s, after %d cuts: %.300s", c.Name, barrier, cuts, found.Error())
		}
	}
}

// firstViolation runs the crash loop with lying syncs until it finds something, in
// several scripts.
func firstViolation(t *testing.T, c *WriteCase, opt CrashOptions, lie func(string, []int64) bool) (found error, cuts int) {
	for range 4 {
		l := newCrashLoop(nil, c, opt)
		n, err := l.count()
		if err != nil {
			t.Fatalf("%s, seed %d: without a cut: %v", c.Name, opt.Seed, err)
		}
		l.lie, l.plain = lie, true
		for k := 1; k <= n; k++ {
			cuts++
			if err := l.cut(k); err != nil {
				return err, cuts
			}
		}
		opt.Seed++
	}
	return nil, cuts
}

// findTables runs the script and takes for a table what never held data. The first
// sector, a header, is no table: counts in it are written before the entries.
func findTables(t *testing.T, c *WriteCase, opt CrashOptions) func(path string, sector int64) bool {
	t.Helper()
	f := c.fs()
	data := map[string]map[int64]bool{}
	r := newRun(c, f, c.Flat)
	collectData(t, f, c.Open, data)
	err := r.open(true)
	for _, s := range newCrashLoop(nil, c, opt).script {
		if err == nil {
			err = r.do(s)
		}
		if err == nil {
			err = r.d.Sync()
		}
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		collectData(t, f.Clone(), c.Open, data)
	}
	if err := r.close(); err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return func(path string, sector int64) bool {
		return sector > 0 && !c.isParent(path) && !data[path][sector]
	}
}

// collectData enters the sectors the topmost image's map leads to.
func collectData(t *testing.T, f *crashfs.FS, path string, data map[string]map[int64]bool) {
	t.Helper()
	chain, err := vdcore.OpenFS(f, path, vdcore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	img := chain.Top().Layer().Image
	extents, err := img.Map(nil, 0, img.Info().Capacity)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	for _, e := range extents {
		if e.Kind != vdcore.Data {
			continue
		}
		name := img.Files()[e.File].Path()
		if data[name] == nil {
			data[name] = map[int64]bool{}
		}
		for s, end := sectorRange(e.Pos, e.Len); s < end; s++ {
			data[name][s] = true
		}
	}
}
