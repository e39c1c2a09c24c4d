module bundle/pause

go 1.24
