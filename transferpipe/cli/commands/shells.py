"""The verb `completion`: the script that makes a shell ask what fits, which `transferpipe.cli.completion` answers.

The shell calls ``transferpipe -sc query=SHELL`` with the line up to the cursor in ``COMP_LINE`` and gets a word a line;
fish also gets what each means, behind a tabulator. Nothing of the answer is evaluated: files may have any names.
"""

from __future__ import annotations

from collections.abc import Mapping

from transferpipe.cli.verbs import Arguments
from transferpipe.errors import Problem, RecipeError, did_you_mean

_BASH = r"""_transferpipe() {
    local line="${COMP_LINE:0:COMP_POINT}" breaks="" head="" reply
    local word="${line##*[[:space:]]}"
    # Of a word with one of these in it, bash replaces only what is behind the last.
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+="="
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=":"
    [[ -n $breaks ]] && head="${word%"${word##*[$breaks]}"}"
    COMPREPLY=()
    while IFS= read -r reply; do
        reply="${reply#"$head"}"
        case $reply in *[=./,[]) ;; *) reply+=" " ;; esac
        COMPREPLY+=("$reply")
    done < <(COMP_LINE="$line" "$1" -sc query=bash 2>/dev/null)
}
complete -o nospace -o default -F _transferpipe transferpipe
"""
_ZSH = r"""_transferpipe() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    local -a replies
    replies=("${(@f)$(COMP_LINE="$line" "$words[1]" -sc query=zsh 2>/dev/null)}")
    replies=("${(@)replies:#}")
    if (( ! $#replies )); then
        _files
        return
    fi
    compadd -S '' -- "${(@M)replies:#*[=./,\[]}"
    compadd -- "${(@)replies:#*[=./,\[]}"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _transferpipe transferpipe
"""
_FISH = r"""function __transferpipe_complete
    set -lx COMP_LINE (commandline -cp)
    set -l words (commandline -cpo)
    set -l replies ($words[1] -sc query=fish 2>/dev/null)
    if test (count $replies) -eq 0
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $replies
    end
end
complete -c transferpipe -f -a '(__transferpipe_complete)'
"""
SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def print_script(arguments: Arguments) -> int:
    """Print the script of one shell."""
    (shell,) = arguments.take_words(1, f"one of {', '.join(SCRIPTS)}")
    if shell not in SCRIPTS:
        hint = did_you_mean(shell, SCRIPTS) or f"there are {', '.join(SCRIPTS)}"
        raise RecipeError(Problem("completion", f"there is no script for {shell!r}", hint))
    print(SCRIPTS[shell], end="")
    return 0
