package vdi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"vdfs/vdcore"
	"vdfs/vdcore/storage"
	"vdfs/vdcore/vdtest"
)

// TestMoveCrash lets the power go while one batch of blocks is copied and the one
// before becomes durable. VDFS_CRASH_SEEDS asks for every cut.
func TestMoveCrash(t *testing.T) {
	const block, blocks, path = 128 << 10, 24, "/vm/disk.vdi"
	defer func(n int64) { moveBytes = n }(moveBytes)
	moveBytes = 2 * block
	v := &vdtest.VDI{Capacity: blocks * block, BlockSize: block, ID: vdtest.RandomUUID(rand.New(rand.NewPCG(1, 2)))}
	flat := make([]byte, v.Capacity)
	for n := range blocks {
		data := flat[n*block : (n+1)*block]
		if n%2 == 1 {
			rand.NewChaCha8([32]byte{byte(n)}).Read(data)
		}
		v.Map, v.Slots = append(v.Map, uint32(n)), append(v.Slots, data)
	}
	options := vdtest.CrashOptions{MaxCuts: 8, Survivors: 3}
	if os.Getenv("VDFS_CRASH_SEEDS") != "" {
		options.MaxCuts = 0
	}
	vdtest.CrashOperation(t, vdtest.Operation{
		Name: "moving blocks", Files: map[string][]byte{path: v.Bytes()},
		Do: func(fsys storage.FS) error {
			chain, err := vdcore.OpenFS(fsys, path, vdcore.Options{Write: true})
			if err != nil {
				return err
			}
			_, err = chain.Compact(context.Background(), nil)
			return errors.Join(err, chain.Close())
		},
		Look: func(fsys storage.FS, done bool) error {
			chain, err := vdcore.OpenFS(fsys, path, vdcore.Options{})
			if err != nil {
				return err
			}
			defer chain.Close()
			got := make([]byte, len(flat))
			held := chain.Top().Layer().Info().Allocated
			switch err := storage.ReadFull(chain.Top(), got, 0); {
			case err != nil:
				return err
			case !bytes.Equal(got, flat):
				return errors.New("the disk shows something else")
			case done && held != blocks/2*block:
				return fmt.Errorf("%d bytes are held", held)
			}
			return nil
		},
	}, options)
}
