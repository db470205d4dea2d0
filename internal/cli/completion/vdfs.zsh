#compdef vdfs
# zsh completion for vdfs. The program itself tells what may follow.

_vdfs() {
    local kind line
    local -a lines found
    lines=("${(@f)$("${words[1]}" complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    kind=$lines[1]
    for line in "${(@)lines[2,-1]}"; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    (( $#found )) && _describe -t vdfs vdfs found
    [[ $PREFIX == -*=* ]] && compset -P '*='
    case $kind in
    files) _files ;;
    dirs) _files -/ ;;
    images*) _files -g "*.(#i)(${(j:|:)${=kind#images}})" ;;
    esac
}

if [[ $funcstack[1] == _vdfs ]]; then
    _vdfs "$@"
else
    compdef _vdfs vdfs
fi
