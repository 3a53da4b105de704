package demo

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cordboard/cordboard/gateway/api"
)

//go:embed state.yaml
var stateYAML string

// AgentLine is what the demo's agent says, again and again.
const AgentLine = "Horizonte, buenos días, le atiende Ana. ¿En qué puedo ayudarle? Un momento, por favor, lo reviso ahora mismo. Ya está, ¿puede probar otra vez?"

// State is the company's state. carrier is the address of the simulated
// carrier; secret makes the password of a user (device is empty) or of a
// user's device.
func State(carrier string, secret func(username, device string) (string, error)) (api.State, error) {
	var out api.State
	var doc any
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(stateYAML, "${CARRIER}", carrier)), &doc); err != nil {
		return out, fmt.Errorf("the demo's state: %w", err)
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return out, fmt.Errorf("the demo's state: %w", err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("the demo's state: %w", err)
	}
	for i := range out.Users {
		u := &out.Users[i]
		password, err := secret(u.Username, "")
		if err != nil {
			return out, err
		}
		stay := false
		u.Password, u.MustChangePassword = &password, &stay
		if u.Devices == nil {
			continue
		}
		devices := *u.Devices
		for j := range devices {
			s, err := secret(u.Username, devices[j].Name)
			if err != nil {
				return out, err
			}
			devices[j].Secret = &s
		}
	}
	return out, nil
}

// Words are what the demo's passwords are made of.
func Words() []string {
	return strings.Fields(`
		Amber Arbor Basil Birch Brook Cedar Cliff Cloud Cobalt Coral Cove Crane
		Delta Dune Ember Falcon Fern Field Fjord Forest Garnet Glade Grove Harbor
		Hazel Heron Indigo Iris Island Ivory Jasper Juniper Lagoon Lark Laurel
		Linden Lotus Maple Marsh Meadow Mesa Mint Moss Oak Olive Onyx Opal Orchid
		Otter Pearl Pine Plum Poplar Prairie Quartz Raven Reef Ridge River Robin
		Saffron Sage Shore Sierra Silver Slate Spruce Stone Summit Swift Tide
		Timber Topaz Valley Violet Walnut Willow Wren Zephyr`)
}
