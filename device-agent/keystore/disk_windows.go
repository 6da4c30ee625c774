package keystore

import "io/fs"

// A file of Windows has an access list, which the mode that Go makes up does not show.
// It comes from the directory: below %AppData% that is the user, the system and the
// administrators. Nothing here looks at it, so a directory elsewhere may be anybody's.

func own(fs.FileInfo) bool { return true }

func allows(fs.FileInfo, fs.FileMode) bool { return false }

// syncDir does nothing: directories cannot be synced, and NTFS keeps a log of their
// changes. A power cut may take the newest away, and with it keys that were enrolled.
func syncDir(string) error { return nil }
