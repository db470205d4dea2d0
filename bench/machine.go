package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// printMachine names what the figures come from.
func (b *bench) printMachine() {
	fmt.Printf("%d cores (%s), %s, Linux %s\n", runtime.NumCPU(), lineOf("/proc/cpuinfo", "model name"),
		lineOf("/proc/meminfo", "MemTotal"), firstLine(exec.Command("uname", "-r")))
	fmt.Println(firstLine(exec.Command(b.vdfs, "version")))
	for _, v := range [][]string{
		{"qemu-storage-daemon", "--version"}, {"qemu-img", "--version"}, {"VBoxManage", "--version"},
		{"vmdkmount", "-V"}, {"xmount", "--version"}, {"nbdfuse", "--version"},
	} {
		fmt.Printf("%s %s\n", v[0], b.version(v[0], v[1]))
	}
	fmt.Printf("%d MiB of random data in each image, medians of %d rounds\n", b.data>>20, b.rounds)
}

// versionNumber is 7.2.22 or, as libvmdk has it, a date.
var versionNumber = regexp.MustCompile(`\d+\.\d+[\w.]*|\d{8}`)

func (b *bench) version(name, option string) string {
	cmd := b.tool(name, option)
	if cmd == nil {
		return "not installed"
	}
	out, _ := cmd.CombinedOutput() // xmount fails when it tells its version
	return versionNumber.FindString(string(out))
}

// findTools looks up how each of the peers is run.
func (b *bench) findTools() {
	b.tools = map[string][]string{}
	for _, name := range []string{"qemu-storage-daemon", "qemu-img", "qemu-nbd", "VBoxManage", "vboximg-mount", "vmdkmount", "xmount", "nbdfuse"} {
		via := append(slices.Clone(b.via), "sh", "-c", "command -v "+name)
		if len(b.via) > 0 && exec.Command(via[0], via[1:]...).Run() == nil {
			b.tools[name] = append(slices.Clone(b.via), name)
		} else if _, err := exec.LookPath(name); err == nil {
			b.tools[name] = []string{name}
		}
	}
}

// tool is a peer's command line, or nil if it is not installed.
func (b *bench) tool(name string, args ...string) *exec.Cmd {
	line := append(slices.Clone(b.tools[name]), args...)
	if b.tools[name] == nil {
		return nil
	}
	return exec.Command(line[0], line[1:]...)
}

func firstLine(cmd *exec.Cmd) string {
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// lineOf is the value of the first line of a file of /proc that begins with key.
func lineOf(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
