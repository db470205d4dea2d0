//go:build !race

package imgops

const raced = false
