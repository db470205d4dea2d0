package vdi

import (
	"slices"

	"vdfs/vdcore"
)

var _ vdcore.Checker = (*image)(nil)

// What a check calls the rules of the map; docs/check-codes.md lists all.
const (
	codeOutside = "slot-outside"
	codeTorn    = "slot-torn"
	codeShared  = "shared-slot"
	codeCount   = "block-count"
	codeLeaked  = "leaked-slot"
	codeTail    = "leaked-tail"
)

// Check lists what a repair would mend, and what it could not; the ranges that
// cannot be read are in Info.Damage already.
func (i *image) Check() ([]vdcore.Finding, error) {
	m, err := i.newMender()
	if err != nil {
		return nil, err
	}
	list := m.plan.Kept
	for _, mend := range m.plan.Mends {
		list = append(list, mend.Finding)
	}
	return slices.DeleteFunc(list, func(f vdcore.Finding) bool { return f.Code == codeOutside || f.Code == codeTorn }), nil
}
