// Package imgops holds what can be done with a whole image, as library calls with
// a progress callback: the command line adds nothing but words.
package imgops

// Progress is called now and then with the guest bytes done and those there are;
// calls may come from several goroutines, one at a time.
type Progress func(done, total int64)
