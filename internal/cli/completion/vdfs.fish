# fish completion for vdfs. The program itself tells what may follow.

function __vdfs_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -l lines (command $words[1] complete -- $words[2..] "$cur" 2>/dev/null)
    set -l kind (string split ' ' -- $lines[1])
    printf '%s\n' $lines[2..]
    switch "$kind[1]"
        case dirs
            __fish_complete_directories "$cur"
        case files
            __fish_complete_path "$cur"
        case images
            set -l endings (string join '|' $kind[2..])
            for file in (__fish_complete_path "$cur")
                string match -riq '(/|\.('$endings'))(\t.*)?$' -- $file; and echo $file
            end
    end
end

complete -c vdfs -f -a '(__vdfs_complete)'
