package apply

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// ownership is who owns a file; known is false where it is to be whoever writes it.
type ownership struct {
	known    bool
	uid, gid int
}

func ownerOf(info fs.FileInfo) ownership {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ownership{}
	}
	return ownership{true, int(st.Uid), int(st.Gid)}
}

// set replaces user and group by those named, as names or ids.
func (o *ownership) set(userName, group string) error {
	if userName == "" && group == "" {
		return nil
	}
	if !o.known {
		*o = ownership{true, os.Getuid(), os.Getgid()}
	}
	if userName != "" {
		id, err := strconv.Atoi(userName)
		if err != nil {
			u, err := user.Lookup(userName)
			if err != nil {
				return fmt.Errorf("user %q: %w", userName, err)
			}
			id, _ = strconv.Atoi(u.Uid)
		}
		o.uid = id
	}
	if group != "" {
		id, err := strconv.Atoi(group)
		if err != nil {
			g, err := user.LookupGroup(group)
			if err != nil {
				return fmt.Errorf("group %q: %w", group, err)
			}
			id, _ = strconv.Atoi(g.Gid)
		}
		o.gid = id
	}
	return nil
}

// apply gives a file its owner, where that is another one.
func (o ownership) apply(path string) error {
	if !o.known {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if ownerOf(info) == o {
		return nil
	}
	return os.Chown(path, o.uid, o.gid)
}
