package messages

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	conecv1 "github.com/conec-go/conec/messages/conec/v1"
)

// Limits of what a client publishes about itself.
const (
	// MaxMetadata is how many bytes keys and values may have in all.
	MaxMetadata = 1024
	// MaxLabels is how many there may be.
	MaxLabels = 64
)

// ToLabels makes a message of metadata. Errors: [ErrLimit], or what is wrong with a key
// or a value.
func ToLabels(metadata map[string]string) ([]*conecv1.Label, error) {
	labels := make([]*conecv1.Label, 0, len(metadata))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		labels = append(labels, &conecv1.Label{Key: key, Value: metadata[key]})
	}
	if err := CheckLabels(labels); err != nil {
		return nil, err
	}
	return labels, nil
}

// FromLabels is the reverse of [ToLabels]; nil if there are none.
func FromLabels(labels []*conecv1.Label) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	metadata := make(map[string]string, len(labels))
	for _, label := range labels {
		metadata[label.GetKey()] = label.GetValue()
	}
	return metadata
}

// CheckLabels reports whether these may be a client's metadata: sorted by key, each key
// once and not empty, valid UTF-8, and within [MaxMetadata] and [MaxLabels].
func CheckLabels(labels []*conecv1.Label) error {
	if len(labels) > MaxLabels {
		return fmt.Errorf("%w: metadata with %d keys, at most %d", ErrLimit, len(labels), MaxLabels)
	}
	size, last := 0, ""
	for _, label := range labels {
		key, value := label.GetKey(), label.GetValue()
		switch {
		case key <= last:
			return fmt.Errorf("%w: keys of metadata must not be empty, and are sorted", ErrProtocol)
		case !utf8.ValidString(key) || !utf8.ValidString(value):
			return fmt.Errorf("%w: metadata of key %.100q is not UTF-8", ErrProtocol, key)
		}
		size, last = size+len(key)+len(value), key
	}
	if size > MaxMetadata {
		return fmt.Errorf("%w: metadata of %d bytes, at most %d", ErrLimit, size, MaxMetadata)
	}
	return nil
}
