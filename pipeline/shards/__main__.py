"""`python -m pipeline.shards ls|cat|verify|stat URL`: what is in a data set, and whether it is whole."""

from pipeline.shards.command import main

raise SystemExit(main())
