package cli

import "github.com/spf13/cobra"

func (a *app) hubCmd() *cobra.Command     { return &cobra.Command{Use: "hub"} }
func (a *app) nodesCmd() *cobra.Command   { return &cobra.Command{Use: "nodes"} }
func (a *app) raiseCmd() *cobra.Command   { return &cobra.Command{Use: "raise"} }
func (a *app) runsCmd() *cobra.Command    { return &cobra.Command{Use: "runs"} }
func (a *app) versionCmd() *cobra.Command { return &cobra.Command{Use: "version"} }
