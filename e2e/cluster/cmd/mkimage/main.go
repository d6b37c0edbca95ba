// Command mkimage makes a container image out of a folder, without a container engine.
//
// The result is a tar archive as `docker save` writes it, with one layer. The same folder always gives the same
// bytes: entries are sorted, times are zero, every owner is root, and the permissions of group and others follow
// the owner's (read and execute, never write), so that the umask of whoever filled the folder does not matter.
// A folder with the sticky bit, such as /tmp, keeps its mode.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// image is the image configuration of the OCI image specification, as far as we fill it.
type image struct {
	Created      string `json:"created"`
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       config `json:"config"`
	RootFS       rootFS `json:"rootfs"`
}

type config struct {
	User       string   `json:",omitempty"`
	Env        []string `json:",omitempty"`
	Entrypoint []string `json:",omitempty"`
	Cmd        []string `json:",omitempty"`
	WorkingDir string   `json:",omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// manifest is one entry of an archive's manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

type options struct {
	rootfs, name, out, user, workdir string
	entrypoint, cmd, env             []string
}

func main() {
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	flag.StringVar(&o.rootfs, "rootfs", "", "folder that holds the image's files")
	flag.StringVar(&o.name, "name", "", "image name with a tag, such as localhost/test:1")
	flag.StringVar(&o.out, "out", "", "archive to write")
	flag.StringVar(&o.user, "user", "", "numeric UID:GID that the image runs as")
	flag.StringVar(&o.workdir, "workdir", "", "folder that the image runs in")
	flag.Func("entrypoint", "entrypoint, as a JSON list", list(&o.entrypoint))
	flag.Func("cmd", "arguments of the entrypoint, as a JSON list", list(&o.cmd))
	flag.Func("env", "environment variable KEY=VALUE (may be repeated)", func(value string) error {
		if !strings.Contains(value, "=") {
			return errors.New("want KEY=VALUE")
		}
		o.env = append(o.env, value)
		return nil
	})
	flag.Parse()
	if flag.NArg() > 0 || o.rootfs == "" || o.name == "" || o.out == "" {
		fmt.Fprintln(os.Stderr, "mkimage: -rootfs, -name and -out are needed, and nothing but flags")
		flag.Usage()
		os.Exit(2)
	}
	return o
}

func list(into *[]string) func(string) error {
	return func(value string) error { return json.Unmarshal([]byte(value), into) }
}

func run(o options) error {
	if !strings.Contains(filepath.Base(o.name), ":") {
		return fmt.Errorf("image name %q has no tag", o.name)
	}
	layer, err := os.CreateTemp(filepath.Dir(o.out), ".mkimage-layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	digest, err := writeLayer(layer, o.rootfs)
	if err != nil {
		return fmt.Errorf("layer from %s: %w", o.rootfs, err)
	}
	return writeArchive(o, layer, digest)
}

// writeLayer writes dir as a tar archive to out and returns the archive's SHA-256 in hex.
func writeLayer(out io.Writer, dir string) (string, error) {
	hash := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(out, hash))
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || name == "." {
			return err
		}
		return writeEntry(archive, path, filepath.ToSlash(name), entry)
	})
	if err != nil {
		return "", err
	}
	if err := archive.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func writeEntry(archive *tar.Writer, path, name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, Mode: mode(info.Mode()), ModTime: time.Unix(0, 0)}
	switch {
	case info.Mode().IsRegular():
		header.Typeflag, header.Size = tar.TypeReg, info.Size()
	case info.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case info.Mode()&fs.ModeSymlink != 0:
		header.Typeflag, header.Mode = tar.TypeSymlink, 0o777
		if header.Linkname, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s: only files, folders and symbolic links can be in an image", path)
	}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(archive, file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func mode(m fs.FileMode) int64 {
	if m&fs.ModeSticky != 0 {
		return int64(m.Perm()) | 0o1000
	}
	owner := int64(m.Perm() >> 6)
	return owner<<6 | (owner&5)<<3 | owner&5
}

// writeArchive puts the layer, the image configuration and the manifest into the archive o.out, whole or not at all.
func writeArchive(o options, layer *os.File, digest string) error {
	settings, err := json.Marshal(image{
		Created:      time.Unix(0, 0).UTC().Format(time.RFC3339),
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config:       config{o.user, o.env, o.entrypoint, o.cmd, o.workdir},
		RootFS:       rootFS{"layers", []string{"sha256:" + digest}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(settings)
	entry := manifest{hex.EncodeToString(sum[:]) + ".json", []string{o.name}, []string{digest + "/layer.tar"}}
	index, err := json.Marshal([]manifest{entry})
	if err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	part := o.out + ".part"
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	defer os.Remove(part)
	defer out.Close()
	archive := tar.NewWriter(out)
	for _, member := range []struct {
		name string
		size int64
		data io.Reader
	}{
		{entry.Config, int64(len(settings)), strings.NewReader(string(settings))},
		{entry.Layers[0], size, io.NewSectionReader(layer, 0, size)},
		{"manifest.json", int64(len(index)), strings.NewReader(string(index))},
	} {
		header := &tar.Header{Name: member.name, Mode: 0o644, Size: member.size, ModTime: time.Unix(0, 0)}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(archive, member.data); err != nil {
			return err
		}
	}
	if err := errors.Join(archive.Close(), out.Close()); err != nil {
		return err
	}
	return os.Rename(part, o.out)
}
