"""Small healthy and broken models of every kind, and what the rules of the policy packs say of them."""
