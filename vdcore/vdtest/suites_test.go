package vdtest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// The suites must pass what is sound …

func TestSoundToy(t *testing.T) {
	for seed := range uint64(5) {
		Model(t, toyCase(toySound), seed, 300)
		Crash(t, toyCase(toySound), CrashOptions{Seed: seed, Survivors: 8, MaxCuts: 60})
	}
	Faults(t, toyCase(toySound))
	Barriers(t, toyCase(toySound), nil)
}

// … and find what is not.

func TestCrashFinds(t *testing.T) {
	for _, bug := range []toyBug{
		toyNoFirstBarrier, toyNoSecondBarrier, toyNoFill, toyReuse, toyParent, toyEarly, toyLeavesOpen, toyWrongHole, toyForgetsOnSync,
	} {
		if err := crashes(bug); err == nil {
			t.Errorf("bug %d is not found", bug)
		} else {
			t.Logf("bug %d: %.150v", bug, err)
		}
	}
}

// crashes is the first thing the crash loop finds wrong.
func crashes(bug toyBug) error {
	for seed := range uint64(10) {
		c := toyCase(bug)
		l := newCrashLoop(nil, &c, CrashOptions{Seed: seed}.filled())
		n, err := l.count()
		for k := 1; k <= n && err == nil; k++ {
			err = l.cut(k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func TestFaultsFind(t *testing.T) {
	for _, bug := range []toyBug{toySwallow, toyRetry} {
		if err := faults(bug); err == nil {
			t.Errorf("bug %d is not found", bug)
		} else {
			t.Logf("bug %d: %.150v", bug, err)
		}
	}
}

// faults is the first thing the fault loop finds wrong.
func faults(bug toyBug) error {
	for seed := range uint64(10) {
		c := toyCase(bug)
		l := newFaultLoop(&c, seed)
		for _, kind := range faultKinds {
			n, err := l.count(kind.rule)
			for k := 1; k <= n && err == nil; k++ {
				rule := kind.rule
				rule.At = k
				err = l.fault(rule)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// The oracle knows every value a sector may have.
func TestOracle(t *testing.T) {
	flat := make([]byte, 4*512-100)
	randomBytes(rand.New(rand.NewPCG(1, 1)), flat)
	o := newOracle(flat, false)
	state := func(s ...byte) []byte { // sector by sector: 0 is what was there at first
		p := append([]byte(nil), flat...)
		for i, c := range s {
			if c != 0 {
				for k := range sectorOf(p, int64(i)) {
					sectorOf(p, int64(i))[k] = c
				}
			}
		}
		return p
	}
	o.write(state(1, 1)[:1024], 0)
	o.write(state(2)[:512], 0)
	for _, ok := range [][]byte{state(), state(1), state(2), state(0, 1), state(1, 1), state(2, 1)} {
		if err := o.survived(ok); err != nil {
			t.Error(err)
		}
	}
	if o.survived(state(0, 2)) == nil || o.survived(state(0, 0, 1)) == nil {
		t.Error("a value nobody wrote is accepted")
	}
	o.sync()
	if o.survived(state(2, 1)) != nil || o.survived(state(1, 1)) == nil {
		t.Error("a sync leaves one value")
	}
	before := o.write(state(3, 3)[:1024], 0)
	if err := o.failed(before, state(2, 3)[:1024], 0, 1024); err != nil || o.shows(state(2, 3), 0) != nil {
		t.Error("a write that failed half-way:", err)
	}
	if o.failed(before, state(1, 3)[:1024], 0, 1024) == nil {
		t.Error("neither old nor new is accepted")
	}
}

// Where sectors tear, two values may meet in one.
func TestTornOracle(t *testing.T) {
	for _, torn := range []bool{false, true} {
		o := newOracle(make([]byte, 512), torn)
		o.write(bytes.Repeat([]byte{1}, 512), 0)
		mixed := append(make([]byte, 100), bytes.Repeat([]byte{1}, 412)...)
		if err := o.survived(mixed); (err == nil) != torn {
			t.Error(torn, err)
		}
		if mixed[300] = 2; o.survived(mixed) == nil {
			t.Error("a byte nobody wrote is accepted")
		}
	}
}

// A panic is an error that no injected fault excuses.
func TestPanics(t *testing.T) {
	err := guarded(func() error { panic("boom") })
	if bad := (unexpected{}); !errors.As(err, &bad) {
		t.Error(err)
	}
}
