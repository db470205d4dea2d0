// Package evidence tells what happened to images while they were in use: whether
// somebody changed them (Watch), and who did what with them (Audit).
//
// # Watching
//
// A file is what it was as long as its path leads to the same inode with the same size
// and the same times of modification and change. The time of change is what counts:
// nobody can set it back, so a look at the end finds every change made since the
// beginning, and nothing else is needed to be right. Looks in between, one every
// [Every], tell sooner. There is no inotify: it would tell sooner still, but network
// file systems do not notify, a chain may have more files than there are watches, and
// the looks would be needed all the same. A look is one stat a file.
//
// The beginning is when the files were opened, before anything was read of them
// ([storage.Opened]). Files that are written by the mount itself are not watched.
//
// Each file is reported once, with all that was found about it by then: what is kept
// is bounded by the number of files.
//
// # The audit file
//
// One JSON object a line, each written by one write to a file opened with O_APPEND, so
// that several mounts may share one; a line that was cut off by a crash is ended before
// the first of the next. Lines that begin or end something, and changes and the first
// errors, are on disk when the call returns. Opens and closes are not synced, and there
// are at most [maxUses] lines of them in a burst: those left out are counted, in the next
// line that is written and in the last one. Reads are not logged. After a line could not
// be written the file is not complete: that is logged, and Close returns it.
//
// # Locks
//
// Watch.looking is held during a look, also while news are told; Watch.mu, which guards
// what was found, and Audit.mu, while a line is written, are taken last and for
// themselves.
package evidence
