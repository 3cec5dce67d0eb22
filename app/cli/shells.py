"""The scripts that make a shell complete `headwater`. Standard library only.

They ask the typed program itself, in typer's protocol. So they work for `./headwater` in any
clone, and offer the verbs of that clone's version.
"""

from __future__ import annotations

COMPLETE = "_HEADWATER_COMPLETE"  # typer's variable, by the program's name

_BASH = r"""_headwater_completion() {
    local IFS=$'\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        _HEADWATER_COMPLETE=complete_bash "${1/#\~/$HOME}" 2>/dev/null ) )
}
complete -o default -F _headwater_completion headwater"""

_ZSH = r"""#compdef headwater
_headwater_completion() {
    eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \
        _HEADWATER_COMPLETE=complete_zsh ${~words[1]} 2>/dev/null)
}
compdef _headwater_completion headwater"""

_FISH = r"""function _headwater_completion
    set -l program (string replace -r '^~' $HOME -- (commandline -opc)[1])
    env _HEADWATER_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline -cp | string collect) $program 2>/dev/null
end
complete --command headwater --no-files --arguments '(_headwater_completion get-args)' \
    --condition '_headwater_completion is-args'"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
