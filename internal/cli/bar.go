package cli

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"vdfs/vdcore"
	"vdfs/vdcore/imgops"
)

const (
	barCells = 32
	// barLimit is how long the bars of a chain may take. That is enough for all of the
	// maps of most; of the rest, terabytes in small grains or hundreds of layers, it is
	// enough for a sample of each cell, and the title says that it is one.
	barLimit = 150 * time.Millisecond
)

// What a cell of a bar shows: how much of its part of the disk a layer holds itself.
const (
	barNone    = '·'
	barZero    = '0'
	barLost    = '×'
	barMissing = '?' // not held, and there is no parent to ask
	barUnseen  = ' '
)

var barHeld = [...]rune{'░', '▒', '▓', '█'} // little of it, half, most, all

// bars are the bars of all layers, base first.
type bars struct {
	rows  []string
	whole bool
}

// takeBars draws the layers of a chain; nil when its maps cannot be read.
func takeBars(c *vdcore.Chain) *bars {
	s, err := imgops.TakeSurvey(context.Background(), c, barCells, barLimit)
	if err != nil {
		log.Debug().Err(err).Msg("no bars")
		return nil
	}
	b := &bars{whole: s.Whole}
	for i, shares := range s.Layers {
		none := barNone
		if c.Layers()[i].Link.Verdict == vdcore.LinkMissing {
			none = barMissing
		}
		row := make([]rune, len(shares))
		for k, share := range shares {
			if row[k] = barCell(share); row[k] == barNone {
				row[k] = none
			}
		}
		b.rows = append(b.rows, string(row))
	}
	return b
}

func barCell(s imgops.Share) rune {
	held := s.Data + s.Packed
	switch {
	case s.Lost > 0:
		return barLost
	case held > 0 && held >= s.Looked:
		return barHeld[3]
	case held > 0:
		return barHeld[held*3/s.Looked]
	case s.Zero > 0:
		return barZero
	case s.Looked == 0:
		return barUnseen
	}
	return barNone
}

// cell is a layer's bar in a table; an empty one where there are none.
func (b *bars) cell(layer int) cell {
	if b == nil {
		return cell{}
	}
	row := b.rows[layer]
	return cell{text: row, paint: func(p *page) (painted string) {
		for _, part := range barRuns(row) {
			painted += p.in(barStyle(part), part)
		}
		return painted
	}}
}

// barRuns cuts a bar into stretches of one style.
func barRuns(row string) (list []string) {
	for _, r := range row {
		if k := len(list) - 1; k >= 0 && barStyle(list[k]) == barStyle(string(r)) {
			list[k] += string(r)
			continue
		}
		list = append(list, string(r))
	}
	return list
}

func barStyle(part string) style {
	switch r, _ := utf8.DecodeRuneInString(part); r {
	case barLost, barMissing:
		return red
	case barNone, barZero:
		return faint
	}
	return blue
}

// legend explains the cells there are, "" for none.
func (b *bars) legend() string {
	if b == nil {
		return ""
	}
	all := strings.Join(b.rows, "")
	words := []string{"░▒▓█ held by the layer"}
	for _, k := range []struct {
		sign rune
		word string
	}{{barNone, "not held"}, {barZero, "zeros"}, {barMissing, "not held, and the parent is missing"}, {barLost, "lost, or some of it"}} {
		if strings.ContainsRune(all, k.sign) {
			words = append(words, string(k.sign)+" "+k.word)
		}
	}
	if !b.whole {
		words = append(words, "(a sample: the maps are large)")
	}
	return strings.Join(words, "   ")
}
