package auth

// UserByExtension returns the active user of an extension.
func (s *Service) UserByExtension(extension string) (User, bool) {
	if extension == "" {
		return User{}, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, u := range s.users {
		if u.Extension == extension && u.State == UserActive {
			return u, true
		}
	}
	return User{}, false
}
