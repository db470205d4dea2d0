// Package picture draws a disk and the layers it is made of as a PNG image: a strip for
// each, from the topmost down, one below the other, so that one sees which layer holds
// what, what of it shows, and what is lost.
//
// It knows nothing of images: the caller says what each of [Columns] equal parts of the
// disk holds. A picture is [Width] pixels wide and not more than a few thousand high,
// however many strips there are (at most [MaxStrips]): they get thinner, first without
// their second line of text, then with a name for some of them only. A part of which
// anything is lost is drawn as lost, and the least bit of data shows.
//
// Letters come from the Go fonts (Latin, Greek, Cyrillic); others are drawn as boxes.
package picture
