package metrics

// Remembered returns how many sign-ins are remembered.
func (m *Metrics) Remembered() int {
	m.signIns.mu.Lock()
	defer m.signIns.mu.Unlock()
	return len(m.signIns.open)
}
