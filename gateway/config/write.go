package config

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// YAML writes the configuration as a file that Load reads to the same values.
func (c *Config) YAML() ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	nodes := map[string]*yaml.Node{"": root}
	for _, f := range fields() {
		parent, name := "", f.path
		if i := strings.LastIndexByte(f.path, '.'); i >= 0 {
			parent, name = f.path[:i], f.path[i+1:]
		}
		v := &yaml.Node{Kind: yaml.ScalarNode, Value: f.get(c)}
		if !f.plain {
			v.Tag, v.Style = "!!str", yaml.DoubleQuotedStyle
		}
		n := section(nodes, parent)
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, v)
	}
	out, err := yaml.Marshal(root)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return out, nil
}

func section(nodes map[string]*yaml.Node, path string) *yaml.Node {
	if n, ok := nodes[path]; ok {
		return n
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, name = path[:i], path[i+1:]
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	p := section(nodes, parent)
	p.Content = append(p.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, n)
	nodes[path] = n
	return n
}
