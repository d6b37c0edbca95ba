// Command provisioner gives every claim of the test cluster a file system of its own.
//
// A volume is a sparse image file of the claim's size with XFS on it, mounted through a loop device. Hence a full
// volume is really full (ENOSPC), and `cp --reflink` works. It runs beside kubelet, as a process of the node.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// name is what a StorageClass calls this provisioner.
const name = "graph-backup-operator.test/xfs"

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file of the cluster")
	node := flag.String("node", "", "name of the node that this process runs on")
	folder := flag.String("folder", "", "folder for image files and mount points")
	flag.Parse()

	settings, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatalf("kubeconfig: %v", err)
	}
	settings.UserAgent = "provisioner"
	client, err := kubernetes.NewForConfig(settings)
	if err != nil {
		log.Fatalf("client: %v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	controller.NewProvisionController(ctx, client, name, &provisioner{node: *node, folder: *folder},
		controller.LeaderElection(false)).Run(ctx)
}
