// Command vdfs shows virtual disk images as flat raw files.
package main

import (
	"os"

	"vdfs/internal/cli"
)

func main() { os.Exit(cli.Run(os.Args)) }
