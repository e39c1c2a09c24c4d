"""The processes of `objectstore serve`, a module each; `plan` lists them."""
