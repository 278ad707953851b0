"""The command `cai`: one thin file per noun. Start from `cai.cli.main.main`."""
