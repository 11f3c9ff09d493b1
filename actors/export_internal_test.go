package actors

// WatchedBy returns how many actors of the system a peer watches.
func (r *Remote) WatchedBy(peer string) int64 { return r.peer(peer).inward.watched.Load() }
