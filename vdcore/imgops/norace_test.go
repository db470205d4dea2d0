//go:build !race

package imgops_test

const raced = false
