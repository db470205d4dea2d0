package vdi

import (
	"fmt"

	"vdfs/vdcore"
)

var _ vdcore.Checker = (*image)(nil)

// Check compares the map, the count in the header and the length of the file, which
// only have to agree for an image to be written.
func (i *image) Check() ([]vdcore.Finding, error) {
	used := newBitmap(min(i.slotsInFile(), maxSlots))
	var end, shared int64
	err := i.entries(func(slot uint32, _, count int64) error {
		shared += count - 1
		if int64(slot) < used.n && used.set(int64(slot)) {
			shared++
		}
		end = max(end, int64(slot)+1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var list []vdcore.Finding
	if shared > 0 {
		list = append(list, vdcore.Finding{Code: "shared-slot", Bytes: shared * int64(i.header.BlockSize),
			Text: fmt.Sprintf("%d blocks share their slot with another; one of them shows the wrong data", shared)})
	}
	if count := int64(i.header.Allocated); count < end {
		list = append(list, vdcore.Finding{Code: "block-count", Bytes: (end - count) * i.header.slotSize(),
			Text: fmt.Sprintf("the header counts %d slots, but slot %d is in use: VirtualBox would write over it", count, end-1)})
	}
	if i.header.Type == typeFixed { // its slots need not be in use
		return list, nil
	}
	return append(list, i.leaks(used, end)...), nil
}

// leaks is space that is taken for nothing.
func (i *image) leaks(used bitmap, end int64) (list []vdcore.Finding) {
	leak := func(code string, n int64, text string) {
		if n > 0 {
			list = append(list, vdcore.Finding{Code: code, Leak: true, Bytes: n * i.header.slotSize(), Text: fmt.Sprintf(text, n)})
		}
	}
	leak("leaked-slot", min(end, used.n)-used.count(), "%d slots below the last one in use hold nothing")
	leak("leaked-tail", i.slotsInFile()-end, "%d slots behind the last one in use hold nothing")
	leak("counted-slot", int64(i.header.Allocated)-max(end, i.slotsInFile()), "the header counts %d slots that are neither in use nor in the file")
	return list
}
