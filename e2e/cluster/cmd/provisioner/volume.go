package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	// smallest is the least size, in bytes, of which mkfs.xfs makes a file system (300 MiB).
	smallest = 300 << 20
	// loopMajor is the major number of loop devices, from the kernel's list of device numbers.
	loopMajor = 7
	// mountTries bounds how often a free loop device is looked for: another process may take it before we do.
	mountTries = 10
)

type provisioner struct {
	node, folder string
}

// Provision makes the volume's image and mounts it. Done twice for one name it finds its own work and keeps it.
func (p *provisioner) Provision(
	ctx context.Context, o controller.ProvisionOptions,
) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if o.SelectedNodeName != "" && o.SelectedNodeName != p.node {
		return nil, controller.ProvisioningReschedule, fmt.Errorf("no node %q here", o.SelectedNodeName)
	}
	if mode := o.PVC.Spec.VolumeMode; mode != nil && *mode != core.PersistentVolumeFilesystem {
		return nil, controller.ProvisioningFinished, fmt.Errorf("volumeMode %s is not supported", *mode)
	}
	request := o.PVC.Spec.Resources.Requests[core.ResourceStorage]
	size := max(request.Value(), smallest)
	if err := p.create(ctx, o.PVName, size); err != nil {
		return nil, controller.ProvisioningFinished, errors.Join(err, p.remove(ctx, o.PVName))
	}
	return p.describe(o, size), controller.ProvisioningFinished, nil
}

// Delete unmounts the volume and removes its image. What is gone already is fine.
func (p *provisioner) Delete(ctx context.Context, volume *core.PersistentVolume) error {
	return p.remove(ctx, volume.Name)
}

func (p *provisioner) describe(o controller.ProvisionOptions, size int64) *core.PersistentVolume {
	image, mount := p.paths(o.PVName)
	mode := core.PersistentVolumeFilesystem
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: o.PVName, Annotations: map[string]string{name + "-image": image}},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      core.ResourceList{core.ResourceStorage: *resource.NewQuantity(size, resource.BinarySI)},
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: mount}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{
					Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{p.node},
				}},
			}}}},
		},
	}
}

func (p *provisioner) paths(volume string) (image, mount string) {
	return filepath.Join(p.folder, volume+".img"), filepath.Join(p.folder, volume)
}

func (p *provisioner) create(ctx context.Context, volume string, size int64) error {
	image, mount := p.paths(volume)
	if mounted, err := isMounted(mount); err != nil || mounted {
		return err
	}
	file, err := os.OpenFile(image, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		return err
	}
	if err := command(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", image); err != nil {
		return err
	}
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return err
	}
	for range mountTries {
		var device string
		if device, err = freeLoop(); err != nil {
			return err
		}
		// The loop device lives as long as the mount, whatever becomes of us. Discard gives freed blocks back.
		if err = command(ctx, "mount", "-t", "xfs", "-o", "discard,loop="+device, image, mount); err == nil {
			return nil
		}
	}
	return err
}

func (p *provisioner) remove(ctx context.Context, volume string) error {
	image, mount := p.paths(volume)
	mounted, err := isMounted(mount)
	if err != nil {
		return err
	}
	if mounted {
		if err := command(ctx, "umount", mount); err != nil {
			return err
		}
	}
	for _, path := range []string{mount, image} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isMounted tells whether a file system is mounted at path: it is then on another device than its parent folder.
func isMounted(path string) (bool, error) {
	var here, parent unix.Stat_t
	if err := unix.Stat(path, &here); errors.Is(err, unix.ENOENT) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	if err := unix.Stat(filepath.Dir(path), &parent); err != nil {
		return false, fmt.Errorf("stat parent of %s: %w", path, err)
	}
	return here.Dev != parent.Dev, nil
}

// freeLoop returns the path of a loop device that nobody uses, and makes its node where /dev does not fill itself.
func freeLoop() (string, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", fmt.Errorf("free loop device: %w", err)
	}
	path := fmt.Sprintf("/dev/loop%d", number)
	err = unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number))))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return "", fmt.Errorf("make %s: %w", path, err)
	}
	return path, nil
}

func command(ctx context.Context, program string, args ...string) error {
	output, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(output)))
	}
	return nil
}
