// Command cloudprovider is a cloud controller manager with the fake cloud of upstream's own tests, for tests of ours. Which instances that cloud has,
// it reads from the file of --cloud-config, in JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/app"
	"k8s.io/cloud-provider/app/config"
	"k8s.io/cloud-provider/fake"
	"k8s.io/cloud-provider/names"
	"k8s.io/cloud-provider/options"
	"k8s.io/component-base/cli"
	cliflag "k8s.io/component-base/cli/flag"
)

const name = "fake"

// instance is a machine of the cloud, by the name of its Node.
type instance struct {
	ProviderID string   `json:"providerID"`
	Type       string   `json:"type"`
	Zone       string   `json:"zone"`
	Region     string   `json:"region"`
	Addresses  []string `json:"addresses"`
}

func main() {
	cloudprovider.RegisterCloudProvider(name, cloud)
	settings, err := options.NewCloudControllerManagerOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	start := func(completed *config.CompletedConfig) cloudprovider.Interface {
		cloud := completed.ComponentConfig.KubeCloudShared.CloudProvider
		made, err := cloudprovider.InitCloudProvider(cloud.Name, cloud.CloudConfigFile)
		if err != nil || made == nil {
			fmt.Fprintf(os.Stderr, "cloud %q with config %q: %v\n", cloud.Name, cloud.CloudConfigFile, err)
			os.Exit(1)
		}
		return made
	}
	command := app.NewCloudControllerManagerCommand(
		settings, start, app.DefaultInitFuncConstructors, names.CCMControllerAliases(), cliflag.NamedFlagSets{}, wait.NeverStop)
	os.Exit(cli.Run(command))
}

func cloud(file io.Reader) (cloudprovider.Interface, error) {
	instances := map[string]instance{}
	if err := json.NewDecoder(file).Decode(&instances); err != nil {
		return nil, fmt.Errorf("instances: %w", err)
	}
	metadata := func(_ context.Context, node *v1.Node) (*cloudprovider.InstanceMetadata, error) {
		found, ok := instances[node.Name]
		if !ok {
			return nil, cloudprovider.InstanceNotFound
		}
		addresses := []v1.NodeAddress{{Type: v1.NodeHostName, Address: node.Name}}
		for _, address := range found.Addresses {
			addresses = append(addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: address})
		}
		return &cloudprovider.InstanceMetadata{
			ProviderID: found.ProviderID, InstanceType: found.Type, NodeAddresses: addresses, Zone: found.Zone, Region: found.Region,
		}, nil
	}
	return &fake.Cloud{Provider: name, EnableInstancesV2: true, ExistsByProviderID: true, OverrideInstanceMetadata: metadata}, nil
}
