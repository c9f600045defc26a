"""Words and rules that every other part uses: states, policy, settings, events."""
