package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"vdfs/vdcore"
)

// parseSize reads a flag of bytes, 0 when it is not given.
func parseSize(c *cli.Context, flag string) (int64, error) {
	text := c.String(flag)
	if !c.IsSet(flag) {
		return 0, nil
	}
	number, shift := text, 0
	if i := strings.IndexByte("KMGTP", strings.ToUpper(text + " ")[max(0, len(text)-1)]); i >= 0 {
		number, shift = text[:len(text)-1], 10*(i+1)
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || n > vdcore.MaxCapacity>>shift {
		return 0, usageError{fmt.Sprintf("--%s %s: a number of bytes from 1 to 4096P is expected, as in 20G", flag, text)}
	}
	return int64(n) << shift, nil
}
