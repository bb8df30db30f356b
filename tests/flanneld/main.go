// flanneld, as the peer of the overlay's benchmark: flannel's own backend vxlan and its own lease manager on etcd, put together as flannel's
// main.go does, without the backends that need more than Go, and without iptables.
//
//	flanneld <etcd endpoint> <interface> <subnet to ask for>
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/etcd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flanneld:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("expected three arguments: etcd endpoint, interface, subnet")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var subnet ip.IP4Net
	if err := subnet.UnmarshalJSON([]byte(`"` + os.Args[3] + `"`)); err != nil {
		return fmt.Errorf("subnet %s: %w", os.Args[3], err)
	}
	config := &etcd.EtcdConfig{Endpoints: []string{os.Args[1]}, Prefix: "/coreos.com/network"}
	manager, err := etcd.NewLocalManager(ctx, config, subnet, ip.IP6Net{}, 60)
	if err != nil {
		return fmt.Errorf("etcd at %s: %w", os.Args[1], err)
	}
	network, err := manager.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("network config: %w", err)
	}
	link, err := ipmatch.LookupExtIface(os.Args[2], "", "", 0, ipmatch.PublicIPOpts{})
	if err != nil {
		return fmt.Errorf("interface %s: %w", os.Args[2], err)
	}
	vxlan, err := backend.NewManager(ctx, manager, link).GetBackend(network.BackendType)
	if err != nil {
		return fmt.Errorf("backend %s: %w", network.BackendType, err)
	}
	var running sync.WaitGroup
	lease, err := vxlan.RegisterNetwork(ctx, &running, network)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	lease.Run(ctx)
	running.Wait()
	return nil
}
