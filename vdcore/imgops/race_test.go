//go:build race

package imgops

const raced = true
