//go:build race

package vdtest

const raced = true
