"""The joint maximum-likelihood fit of all emitters of a frame, and how many there are."""
