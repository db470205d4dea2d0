package vmdk

import "encoding/binary"

const (
	adlerPrime = 65521
	// adlerWords is how many words are summed before a lane of 16 bits could run
	// over: 255 * (0 + 1 + … + 21) is the most one holds then.
	adlerWords = 22
	adlerBlock = 8 * adlerWords
	// adlerLeap is how many bytes the sums of 64 bits take by far without a modulo,
	// and a whole number of blocks.
	adlerLeap = 1024 * adlerBlock

	evenBytes = 0x00FF00FF00FF00FF
)

// adler is the Adler-32 checksum of p: a is 1 and the sum of the bytes, b the sum
// of all values of a. It takes eight bytes at a time, as lanes of 16 bits in two
// words, and so a third of the time of hash/adler32.
func adler(p []byte) uint32 {
	a, b := uint64(1), uint64(0)
	for len(p) > 0 {
		leap := p[:min(len(p), adlerLeap)]
		p = p[len(leap):]
		for len(leap) >= adlerBlock {
			a, b = adlerSum(a, b, (*[adlerBlock]byte)(leap))
			leap = leap[adlerBlock:]
		}
		for _, c := range leap {
			a += uint64(c)
			b += a
		}
		a, b = a%adlerPrime, b%adlerPrime
	}
	return uint32(b<<16 | a)
}

// adlerSum adds one block. Before word i of n its bytes are added n-1-i times eight
// more to b, which is what summing the sums so far does; then byte j of a word
// counts 8-j times.
func adlerSum(a, b uint64, block *[adlerBlock]byte) (uint64, uint64) {
	var even, odd, evens, odds uint64
	for i := 0; i <= adlerBlock-16; i += 16 { // two words, for the speed of it
		v, w := binary.LittleEndian.Uint64(block[i:]), binary.LittleEndian.Uint64(block[i+8:])
		e := v & evenBytes
		o := (v ^ e) >> 8
		evens += even
		odds += odd
		even += e
		odd += o
		e = w & evenBytes
		o = (w ^ e) >> 8
		evens += even
		odds += odd
		even += e
		odd += o
	}
	b += a*adlerBlock + 8*(lanes(evens)+lanes(odds)) +
		8*lane(even, 0) + 6*lane(even, 1) + 4*lane(even, 2) + 2*lane(even, 3) +
		7*lane(odd, 0) + 5*lane(odd, 1) + 3*lane(odd, 2) + lane(odd, 3)
	return a + lanes(even) + lanes(odd), b
}

// lane is lane i of w.
func lane(w uint64, i uint) uint64 { return w >> (16 * i) & 0xFFFF }

// lanes is the sum of the four lanes.
func lanes(w uint64) uint64 {
	pairs := w&0x0000FFFF0000FFFF + w>>16&0x0000FFFF0000FFFF
	return pairs&0xFFFFFFFF + pairs>>32
}
