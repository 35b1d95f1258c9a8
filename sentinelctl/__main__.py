from sentinelctl.cli import main

main()
