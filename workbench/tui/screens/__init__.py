"""One module a screen; `workbench.tui.app.SCREENS` lists them."""
