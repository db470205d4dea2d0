package storage

// Unsynced is a file system whose files are made durable by nobody: whatever is synced
// there returns at once, and the kernel writes it when it likes. It is for new files that
// are made again after a crash, never for what exists.
func Unsynced(inner FS) FS { return unsynced{inner} }

type unsynced struct{ FS }

func (u unsynced) Open(path string, mode Mode) (File, error) {
	f, err := u.FS.Open(path, mode)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (u unsynced) Below(dir string) FS  { return unsynced{u.FS.Below(dir)} }
func (u unsynced) SyncDir(string) error { return nil }

type unsyncedFile struct{ File }

func (unsyncedFile) Sync() error     { return nil }
func (unsyncedFile) DataSync() error { return nil }
