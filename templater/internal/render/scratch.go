package render

import (
	"fmt"
	"maps"
	"slices"
)

// Scratch is a template's notepad. It lives as long as one execution, in one goroutine.
type Scratch struct{ values map[string]any }

func (s *Scratch) init() {
	if s.values == nil {
		s.values = map[string]any{}
	}
}

// Key reports whether there is a value.
func (s *Scratch) Key(k string) bool { _, ok := s.values[k]; return ok }

// Get gives a value, nil if there is none.
func (s *Scratch) Get(k string) any { return s.values[k] }

// Set keeps a value. It prints nothing.
func (s *Scratch) Set(k string, v any) string { s.init(); s.values[k] = v; return "" }

// SetX keeps a value unless there is one.
func (s *Scratch) SetX(k string, v any) string {
	if !s.Key(k) {
		s.Set(k, v)
	}
	return ""
}

// MapSet keeps a value in a map.
func (s *Scratch) MapSet(k, mk string, v any) (string, error) {
	m, err := s.mapOf(k)
	if err == nil {
		m[mk] = v
	}
	return "", err
}

// MapSetX does so unless there is one.
func (s *Scratch) MapSetX(k, mk string, v any) (string, error) {
	m, err := s.mapOf(k)
	if err == nil {
		if _, ok := m[mk]; !ok {
			m[mk] = v
		}
	}
	return "", err
}

func (s *Scratch) mapOf(k string) (map[string]any, error) {
	s.init()
	if s.values[k] == nil {
		s.values[k] = map[string]any{}
	}
	m, ok := s.values[k].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("scratch: %q holds a %T, not a map", k, s.values[k])
	}
	return m, nil
}

// MapValues gives a map's values in the order of its keys.
func (s *Scratch) MapValues(k string) ([]any, error) {
	if s.values[k] == nil {
		return nil, nil
	}
	m, err := s.mapOf(k)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, mk := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[mk])
	}
	return out, nil
}
