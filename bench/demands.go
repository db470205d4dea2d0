package main

import (
	"fmt"
	"slices"
)

// demand is a ratio vdfs is held to, in each of some rows. More is better.
type demand struct {
	text  string
	rows  []row
	ours  func(row) place
	peer  func(row) place
	least float64
}

// judge prints how the medians compare with what is demanded.
func (b *bench) judge(images []*image) {
	fmt.Printf("\n%-96s %7s %7s\n", "ratios of medians, more is better", "ratio", "wanted")
	for _, img := range images {
		for _, d := range demandsOn(img) {
			b.judgeOne(d)
		}
	}
	for _, pair := range [][2]string{{vdiDeep, vdiOne}, {vmdkDeep, vmdkOne}} {
		b.judgeOne(demand{"vdfs kernel, " + pair[0] + " / 1 layer", readRows, in(pair[0], kernelPath), in(pair[1], kernelPath), 0.85})
	}
	b.judgeOne(demand{streamed + ": " + requestPath + " / qemu-img convert to nothing", []row{rowFirst}, in(streamed, requestPath),
		func(row) place { return place{streamed, rowConvert.name, qemuStorage} }, 1.5})
}

// demandsOn are those that compare contenders on one image.
func demandsOn(img *image) []demand {
	against := func(ours, peer string, least float64, rows ...row) demand {
		return demand{img.name + ": " + ours + " / " + peer, rows, in(img.name, ours), in(img.name, peer), least}
	}
	ds := []demand{
		against(kernelPath, rawFile, 0.8, rowSecond),
		against(kernelPath, rawFile, 0.4, rowRandom),
	}
	for _, peer := range []string{qemuStorage, vboximg} {
		ds = append(ds, against(kernelPath, peer, 5, rowFirst), against(kernelPath, peer, 10, rowRandom))
	}
	for _, peer := range []string{qemuStorage, vboximg} {
		ds = append(ds, against(requestPath, peer, 1, speedRows(img)...))
	}
	return ds
}

// speedRows are those about speed.
func speedRows(img *image) []row {
	return slices.DeleteFunc(slices.Clone(img.rows), func(r row) bool { return r.name == rowMemory.name })
}

// in is the places of one contender's figures on one image.
func in(img, contender string) func(row) place {
	return func(r row) place { return place{img, r.name, contender} }
}

// judgeOne prints the worst row of a demand, and all that fall short of it.
func (b *bench) judgeOne(d demand) {
	worst, at := 0.0, ""
	for _, r := range d.rows {
		ours, peer := b.results[d.ours(r)], b.results[d.peer(r)]
		if len(ours) == 0 || len(peer) == 0 {
			continue
		}
		ratio := median(ours) / median(peer)
		if r.less {
			ratio = 1 / ratio
		}
		if ratio < d.least {
			printRatio(d, r.name, ratio)
		}
		if at == "" || ratio < worst {
			worst, at = ratio, r.name
		}
	}
	if at != "" && worst >= d.least {
		if len(d.rows) > 1 {
			at = "worst: " + at
		}
		printRatio(d, at, worst)
	}
}

func printRatio(d demand, row string, ratio float64) {
	missed := ""
	if ratio < d.least {
		missed = "  missed"
	}
	fmt.Printf("%-96s %7.2f %7.2f%s\n", d.text+", "+row, ratio, d.least, missed)
}
