// Package vbox reads VirtualBox machine files (.vbox).
//
// # What it promises
//
// A file is read once, element by element, and never more than [MaxSize] bytes of it.
// What was read before a mistake is kept: a file that was cut off still tells where
// most media lie. Names and locations are what the file says, untrusted: whoever opens
// one confines it. A document type definition, which could define entities, is an
// error; entities are never expanded from elsewhere.
//
// # The file
//
// Seen in files of VirtualBox 3 to 7.2 and in its manual's words:
//
//	VirtualBox/Machine           name, snapshotFolder, stateFile, currentSnapshot
//	  MediaRegistry/HardDisks    HardDisk: uuid, location; nested as child in parent
//	  Snapshot                   uuid, name, timeStamp; Description; its own storage
//	    Snapshots/Snapshot       made from it
//	  StorageControllers         (from 6.1 on inside Hardware) those of now
//	    StorageController        name
//	      AttachedDevice         type, port, device
//	        Image                uuid
//
// It takes no locks and keeps nothing.
package vbox
